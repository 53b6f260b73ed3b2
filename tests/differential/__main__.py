"""`python -m tests.differential record|compare|show`: see the package's docstring."""

from __future__ import annotations

import argparse
import fnmatch
import sys
import tempfile
import time
from pathlib import Path

from tests.differential import compare, run, show
from tests.peers.apache_kafka import ApacheKafka


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def main() -> int:
    """Run the command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    record = verbs.add_parser("record", help="ask Apache Kafka and keep its answers")
    record.add_argument("--print", action="store_true", help="print them and keep nothing")
    record.add_argument("only", nargs="*", default=["*"], help="scenarios (patterns); others keep their answers")
    compare_verb = verbs.add_parser("compare", help="ask a running node and print what differs from the record")
    compare_verb.add_argument("address", type=_address, help="HOST:PORT")
    compare_verb.add_argument("only", nargs="*", default=["*"])
    shown = verbs.add_parser("show", help="print Kafka's recorded answers")
    shown.add_argument("only", nargs="*", default=["*"])
    arguments = parser.parse_args()

    def progress(name: str) -> None:
        print(f"{time.strftime('%X')} {name}", file=sys.stderr, flush=True)

    if arguments.verb == "record":
        with (
            tempfile.TemporaryDirectory() as directory,
            ApacheKafka(Path(directory) / "kafka", KAFKA_SETTINGS) as kafka,
        ):
            answers = run.run(_address(kafka.bootstrap), arguments.only, progress)
        if arguments.print:
            sys.stdout.write(show.report(answers))
            return 0
        kept = run.load() if run.RECORDED.exists() and arguments.only != ["*"] else {}
        run.save({**kept, **answers})
        return 0
    if arguments.verb == "show":
        recorded = run.load()
        sys.stdout.write(show.report({name: recorded[name] for name in recorded if _matches(name, arguments.only)}))
        return 0
    answers = run.normal(run.run(arguments.address, arguments.only, progress))
    findings = compare.compare(run.load(), answers)
    sys.stdout.write(compare.report(findings))
    return 1 if any(finding.intended is None for finding in findings) else 0


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


KAFKA_SETTINGS = {
    "log.initial.task.delay.ms": "600000",  # the script's records are older than any retention lets them be
    "offsets.topic.num.partitions": "50",
    "transaction.state.log.num.partitions": "50",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "100",
}
CHRONIK_SETTINGS = {"transaction_abort_timed_out_transaction_cleanup_interval_ms": "100"}
"""What the brokers of the comparison are started with, so that transactions that time out do so soon."""

if __name__ == "__main__":
    raise SystemExit(main())
