"""Runs librdkafka's own tests against a broker, one test number a process, and what is expected of them.

`LEFT_OUT` names the numbers that are not run at all, and `FAIL_ON_KAFKA` the tests that do not pass against Apache Kafka 4.1.1
either, run the same way, each with the reason. All others must pass here. Tests that librdkafka marks as local speak to no
broker and are left out, as are those it marks as manual.

    python -m tests.compat.librdkafka_suite HOST:PORT SCENARIO [NUMBER ...]

prints each test's outcome against a running broker, which has the settings of that scenario.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tests.peers import kafka_scripts, librdkafka

PATIENCE = 600.0
"""Seconds that one run may take: the slowest takes about half of it on a quiet machine."""

BROKER_SETTINGS = {"num.partitions": "4", "group.initial.rebalance.delay.ms": "500"}
"""What librdkafka's own scenario "default" sets on its brokers; members that join together are to be assigned together."""

SCENARIOS = {"default": BROKER_SETTINGS, "noautocreate": {**BROKER_SETTINGS, "auto.create.topics.enable": "false"}}
"""librdkafka's scenarios, by the settings that each needs on its broker. A test belongs to one of them."""

SLICE = ("0001", "0012", "0017", "0026", "0030", "0055", "0073", "0090")
"""The numbers of a bounded run: seconds each."""

_HANGS = "librdkafka 2.0.2 waits for ever when it is closed after the topic is deleted"

LEFT_OUT: dict[str, str] = {
    "0107": f"it passes, then {_HANGS}",
}
"""Test numbers that are not run, with the reason."""

_NO_AUTHORIZER = "it sets ACLs, and the broker runs without an authorizer"

FAIL_ON_KAFKA: dict[str, str] = {
    "0045_subscribe_update_topic_remove": f"it passes, then {_HANGS}",
    "0077_compaction": "Kafka 4 refuses its segments of 10 kB",
    "0081_admin/do_test_AlterConfigs": "Kafka 4 looks at the settings' names before it looks for the topic",
    "0092_mixed_msgver": "Kafka 4 has no message.format.version",
    "0109_auto_create_topics": _NO_AUTHORIZER,
    "0113_cooperative_rebalance/n_wildcard": f"it deletes one of its topics, and {_HANGS}",
    "0113_cooperative_rebalance/u_multiple_subscription_changes": "its own process dies of SIGSEGV, every other time",
    "0115_producer_auth": _NO_AUTHORIZER,
    "0119_consumer_auth": _NO_AUTHORIZER,
}
"""Tests that do not pass against Apache Kafka 4.1.1, with what is wrong with them."""

_PARTS = {"0081": "do_test_", "0103": "do_test_", "0113": "[a-z]_"}
"""Numbers whose sub-tests run one by one, with what their names begin with: the first that fails would hide the others."""

_FINE = {"PASSED", "SKIPPED"}

_DECLARED = re.compile(r"^ {4}_TEST\(\s*((\d{4})_\w+),(.*?)\),\n(?! {5})", re.MULTILINE | re.DOTALL)


def declared(scenario: str) -> dict[str, list[str]]:
    """The names of the tests that speak to a broker, by number."""
    text = (librdkafka.source() / "tests" / "test.c").read_text()
    found: dict[str, list[str]] = {}
    for name, number, flags in _DECLARED.findall(text):
        own = re.search(r'\.scenario = "([\w,]+)"', flags)
        scenarios = own[1].split(",") if own else ["default"]
        if "LOCAL" not in flags and "MANUAL" not in flags and scenario in scenarios:
            found.setdefault(number, []).append(name)
    return found


def outcomes(
    bootstrap: str, numbers: Iterable[str] = (), scenario: str = "default", quick: bool = False
) -> Iterator[tuple[str, str, str]]:
    """Run `numbers`, or all of a scenario; yields (test, outcome, the output).

    An outcome is "PASSED", "FAILED", "SKIPPED" (the test says itself why) or "TIMEOUT". A test of _PARTS gives one for each
    of its sub-tests, "name/sub-test". What fails runs again: some of them race against themselves, on any broker. `quick` is
    librdkafka's own quick mode: fewer messages.
    """
    known = declared(scenario)
    for number in numbers or [number for number in known if number not in LEFT_OUT]:
        for part in _parts(number) if number in _PARTS else [""]:
            states, output = _run(bootstrap, number, part, scenario, quick)
            if not {states.get(name) for name in known[number]} <= _FINE:
                states, output = _run(bootstrap, number, part, scenario, quick)
            for name in known[number]:
                state = states.get(name)
                yield f"{name}/{part}" if part else name, state if state in (*_FINE, "TIMEOUT") else "FAILED", output


def _parts(number: str) -> list[str]:
    """The sub-tests of a number that its tests of brokers call."""
    (source,) = (librdkafka.source() / "tests").glob(f"{number}-*.c*")
    text = re.sub(r"^int main_\w+_local\(.*?^}", "", source.read_text(), flags=re.MULTILINE | re.DOTALL)
    functions = re.finditer(rf"^(?:static )?void ({_PARTS[number]}\w+)\(.*?^}}", text, re.MULTILINE | re.DOTALL)
    return [
        found[1]
        for found in functions
        if "SUB_TEST" in found[0] and not found[1].endswith("_local") and text.count(f"{found[1]}(") > 1
    ]


def _run(bootstrap: str, number: str, part: str, scenario: str, quick: bool) -> tuple[Mapping[str, str], str]:
    directory = librdkafka.source() / "tests"
    with tempfile.TemporaryDirectory() as place:
        configuration, report, log = Path(place, "test.conf"), Path(place, "report.json"), Path(place, "output")
        configuration.write_text(f"bootstrap.servers={bootstrap}\n")
        with open(log, "wb") as output:
            child = subprocess.Popen(
                ["./test-runner", "-L", "-s", scenario, *(["-Q"] if quick else [])],
                cwd=directory,
                env={
                    **os.environ,
                    "TESTS": number,
                    **({"SUBTESTS": part} if part else {}),
                    "TEST_KAFKA_VERSION": "4.1.0",
                    "TEST_REPORT": str(report),
                    "RDKAFKA_TEST_CONF": str(configuration),
                    "BROKERS": bootstrap,
                    "KAFKA_PATH": str(kafka_scripts.distribution()),
                    "LD_LIBRARY_PATH": f"{directory.parent / 'src'}:{directory.parent / 'src-cpp'}",
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                child.wait(PATIENCE)
                timed_out = False
            except subprocess.TimeoutExpired:
                timed_out = True
            # The test's own children (Java, forks) are of its session: none of them outlives it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        text = log.read_text(errors="replace")
        if timed_out:
            return dict.fromkeys(declared(scenario)[number], "TIMEOUT"), text
        if not report.exists():
            return {}, text  # it ended itself on the spot: every test of the number counts as failed
        # Messages of errors are put into the report as they are: only the states are taken, by pattern.
        return dict(re.findall(r'"name": "(\w+)", "state": "(\w+)"', report.read_text(errors="replace"))), text


def main(bootstrap: str, scenario: str, *numbers: str) -> None:
    """Print each test's outcome; with CHRONIK_COMPAT_VERBOSE set, the end of the output of those that fail too."""
    for name, outcome, output in outcomes(bootstrap, numbers, scenario):
        print(outcome, name, flush=True)
        if os.environ.get("CHRONIK_COMPAT_VERBOSE") and outcome not in ("PASSED", "SKIPPED"):
            print(output[-4000:], flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
