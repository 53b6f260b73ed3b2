"""`python -m benchmarks`: see the package's docstring."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks import generators, latency, memory, native, report, requests, stages, tails, throughput, transactions
from benchmarks.results import DIRECTORY, Results
from benchmarks.schedule import Schedule
from benchmarks.search import parts as search_parts

_PARTS = ("throughput", "latency", "requests", "stages", "transactions", "tails", "memory", "native")
_SEARCH_PARTS = (
    "search-freshness", "search-produce", "search-indexing", "search-queries", "search-growth", "search-beside",
)  # fmt: skip
_WITHOUT_GENERATORS = {"native", "search-indexing", "search-queries", "search-growth", "search-beside"}


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("part", choices=[*_PARTS, "all", *_SEARCH_PARTS, "search", "report"])
    parser.add_argument(
        "--quick", action="store_true", help="short windows, few cells; results are printed and not kept"
    )
    parser.add_argument("--again", action="store_true", help="measure anew what was measured before")
    parser.add_argument("--every-cell", action="store_true", help="throughput: all combinations (some 4 hours)")
    parser.add_argument("--cells", metavar="WORD", default="", help="throughput: only cells whose name has WORD in it")
    parser.add_argument(
        "--most", metavar="N", type=int, default=1 << 60, help="search: leave out corpora of more messages"
    )
    arguments = parser.parse_args()

    if arguments.part == "report":
        report.write(Results())
        return 0
    whole_of_search = tuple(part for part in _SEARCH_PARTS if part != "search-queries")  # growth has them
    wanted = {"all": _PARTS, "search": whole_of_search}.get(arguments.part, (arguments.part,))
    if not _WITHOUT_GENERATORS.issuperset(wanted):
        generators.build()
    schedule = Schedule.quick() if arguments.quick else Schedule()
    results = Results(None if arguments.quick else DIRECTORY)
    if arguments.again:
        for part in wanted:
            for path in DIRECTORY.glob(f"{search_parts.KEPT_AS.get(part, part)}-*.json"):
                if arguments.cells in path.name:
                    path.unlink()
        results = Results()
    for part in wanted:
        if part == "throughput":
            chosen = [cell for cell in throughput.cells(arguments.every_cell) if arguments.cells in cell.name]
            throughput.run(results, schedule, chosen[:4] if arguments.quick else chosen)
        elif part == "latency":
            latency.run(results, schedule)
        elif part == "requests":
            requests.run(results, schedule)
        elif part == "stages":
            stages.run(results, schedule)
        elif part == "transactions":
            transactions.run(results, schedule)
        elif part == "tails":
            tails.run(results, schedule)
        elif part == "memory":
            memory.run(results, schedule)
        elif part in _SEARCH_PARTS:
            search_parts.run(part, results, schedule, arguments.most)
        else:
            native.run(results, schedule)
        if not arguments.quick:
            report.write(results)
    if arguments.quick:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "RESULTS.md"
            report.write(results, path)
            print(path.read_text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
