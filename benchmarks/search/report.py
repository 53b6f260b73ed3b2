"""The sections of RESULTS.md that are about search, and the plot of its growth."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import corpus
from benchmarks.figures import interval, pooled, quiet, steal, verdict
from benchmarks.results import Results
from benchmarks.search.plot import plot
from benchmarks.search.producing import OFF, ON
from benchmarks.statistics import median, paired_ratio

Cells = list[dict[str, Any]]

PLOT = "search-growth.svg"
_LIMITS_MS = {"phrase": 500.0, "regex with a literal": 500.0, "regex without a literal": math.inf}
"""p99 of row 5; 50 ms for all others."""
_QUERIES = [query.name for query in corpus.QUERIES]
_SHOWN = 10_000_000


def _freshness(cells: Cells) -> list[str]:
    lines = [
        "## Search: freshness",
        "",
        "Milliseconds from the acknowledgement of a message to the end of the first response that holds it; one query after",
        "the other over HTTP, their own time included, while librdkafka produces into the same topic.",
        "",
        "| msg/s beside it (reached) | probes | queries a probe | p50 | p99 | worst | quiet seconds | quiet p50 | quiet p99 | "
        "steal, median (worst) |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    verdicts = []
    for cell in cells:
        windows, calm = cell["windows"], quiet(cell["windows"])
        probes, seconds = sum(w["report"]["calls"] for w in windows), sum(w["report"]["seconds"] for w in calm)
        p50, p99 = pooled(calm, 0.5), pooled(calm, 0.99)
        lines.append(
            f"| {cell['rate']:,} ({cell['reached']:,.0f}) | {probes:,} | "
            f"{sum(w['queries'] for w in windows) / max(probes, 1):.2f} | "
            f"{pooled(windows, 0.5):.2f} | {pooled(windows, 0.99):.2f} | {pooled(windows, 1 - 1e-9):.2f} | {seconds:.0f} | "
            f"{p50:.2f} | {p99:.2f} | {steal(windows)} |"
        )
        if seconds < 60:
            verdicts.append("- not shown: too few quiet windows")
        else:
            verdicts.append(f"- p50 at most 20 ms and p99 at most 100 ms: {verdict(p50 <= 20 and p99 <= 100)}")
    return [*lines, "", *verdicts]


def _produce(cells: Cells) -> list[str]:
    lines = [
        "## Search: produce beside indexing",
        "",
        "100-byte messages over 6 partitions, acks=1. Saturated: two nodes in turn, one that indexes, one without search.",
        "The lag is of messages that no block covers, the unfinished block of each partition among them.",
        "",
    ]
    for cell in cells:
        if "rate" not in cell:
            on, off = ([w["report"]["messages_per_second"] for w in cell["windows"][name]] for name in (ON, OFF))
            ratio = paired_ratio(on, off)
            lags = ", ".join(f"{d['lag']:,.0f} ({d['drain_seconds']:.1f} s)" for d in cell["drains"])
            lines += [
                f"- saturated: {median(on):,.0f} msg/s with the index, {median(off):,.0f} without, ratio {interval(ratio)}; at "
                f"least 0.9 {verdict(ratio.mean >= 0.9)}; steal {steal([*cell['windows'][ON], *cell['windows'][OFF]])}",
                f"- lag in the warm-up: median {median(cell['lags']):,.0f} messages, worst "
                f"{max(cell['lags'], default=0):,.0f}; at the end of each window, and seconds until it was drained: {lags}",
            ]
            continue
        windows, calm = cell["windows"][ON], quiet(cell["windows"][ON])
        seconds, reached = sum(w["report"]["seconds"] for w in calm), sum(w["report"]["messages"] for w in windows)
        p99, worst = pooled(calm, 0.99), max(cell["lags"], default=math.inf) / cell["rate"]
        lasted = sum(w["report"]["seconds"] for w in windows)
        real = reached / lasted
        said = f"p99 {p99:.2f} ms" if seconds >= 60 else f"p99 {pooled(windows, 0.99):.2f} ms, too few quiet windows"
        lines += [
            f"- at {cell['rate']:,} msg/s ({real:,.0f} reached) for {lasted:.0f} s: {said}, lag median "
            f"{median(cell['lags']) / cell['rate']:.2f} s, worst {worst:.2f} s, drained in {cell['drain_seconds']:.1f} s; "
            f"p99 below 10 ms and lag at most 1 s: {verdict(seconds >= 60 and p99 < 10 and worst <= 1)}; "
            f"steal {steal(windows)}",
        ]
    return lines


def _indexing(cells: Cells) -> list[str]:
    lines = [
        "## Search: indexing",
        "",
        "From the segment's file (in the page cache) to signatures, in files too, per second of one core's CPU time.",
        "",
        "| records in a batch | messages | msg/s, best | msg/s, median | by the clock, median | index, % of the log |",
        "|---|---|---|---|---|---|",
    ]
    verdicts = []
    for cell in sorted(cells, key=lambda cell: -int(cell["records_in_batch"])):
        rates = [run["messages_per_cpu_second"] for run in cell["runs"]]
        clock = median([run["messages_per_second"] for run in cell["runs"]])
        lines.append(
            f"| {cell['records_in_batch']:,} | {cell['messages']:,} | {max(rates):,.0f} | {median(rates):,.0f} | "
            f"{clock:,.0f} | {cell['index_bytes'] / cell['log_bytes']:.1%} |"
        )
        if cell["records_in_batch"] == 1000:
            verdicts.append(f"- at least 500,000 msg/s {verdict(median(rates) >= 5e5)}")
    return [*lines, "", *verdicts]


def _queries(cells: Cells) -> list[str]:
    by_size = {cell["messages"]: cell for cell in cells}
    lines: list[str] = []
    if _SHOWN in by_size or len(by_size) == 1:
        lines += [*_one_size(by_size.get(_SHOWN, cells[0])), ""]
    return lines + _growth([by_size[size] for size in sorted(by_size)])


def _one_size(cell: dict[str, Any]) -> list[str]:
    lines = [
        f"## Search: queries over {cell['messages']:,} messages",
        "",
        "The newest 10 over HTTP, one call after the other on one connection, warm, without a total; milliseconds. Beside it",
        "the same with hits counted up to 10,000. A quiet window has at most 1 % steal; a bar needs 1,000 calls in such ones.",
        "",
        "| query | hits shown | calls | p50 | p99 | worst | quiet calls | quiet p99 | counting, p50 | blocks scanned of all | "
        "steal, median (worst) |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    verdicts = []
    for name in _QUERIES:
        query = cell["queries"][name]
        windows, calm = query["windows"], quiet(query["windows"])
        calls, calm_calls = (sum(w["report"]["calls"] for w in some) for some in (windows, calm))
        p99, costs = pooled(calm, 0.99), query["costs"]
        lines.append(
            f"| {name}: `{query['text']}` | {query['hits']} | {calls:,} | {pooled(windows, 0.5):.2f} | "
            f"{pooled(windows, 0.99):.2f} | {pooled(windows, 1 - 1e-9):.2f} | {calm_calls:,} | {p99:.2f} | "
            f"{pooled([query['counting']], 0.5):.2f} | "
            f"{costs['scanned_blocks']:,} of {costs['blocks']:,} | {steal(windows)} |"
        )
        limit = _LIMITS_MS.get(name, 50.0)
        if limit == math.inf:
            verdicts.append(f"- {name}: reported")
        elif calm_calls < 1000:
            verdicts.append(f"- {name}: not shown, too few quiet calls")
        else:
            verdicts.append(f"- {name}: p99 below {limit:.0f} ms {verdict(p99 < limit and not query['failed'])}")
    return [*lines, "", *verdicts]


def _growth(cells: Cells) -> list[str]:
    lines = [
        "## Search: growth",
        "",
        f"p50 in milliseconds of the same queries, by the number of messages ([plot]({PLOT})).",
        "",
        f"| messages | {' | '.join(_QUERIES)} | index, % of raw | log, % of raw | fed, msg/s | drained, s |",
        "|---" * (len(_QUERIES) + 5) + "|",
    ]
    for cell in cells:
        each = [f"{pooled(cell['queries'][name]['windows'], 0.5):.2f}" for name in _QUERIES]
        lines.append(
            f"| {cell['messages']:,} | {' | '.join(each)} | {cell['index_bytes'] / cell['raw_bytes']:.1%} | "
            f"{cell['log_bytes'] / cell['raw_bytes']:.1%} | {cell['fed'] / cell['feed_seconds']:,.0f} | "
            f"{cell['drain_seconds']:.1f} |"
        )
    worst = max(cell["index_bytes"] / cell["raw_bytes"] for cell in cells)
    lines += [
        "",
        f"- the index has at most 7 % of the raw bytes (the corpus's mean of 177 B a message): {verdict(worst <= 0.07)}",
    ]
    if len(cells) > 1:
        before, last = cells[-2:]
        first, second = (pooled(cell["queries"][_QUERIES[0]]["windows"], 0.5) for cell in (before, last))
        more = last["messages"] - before["messages"]
        slopes = ", ".join(f"{name} {_slope(before, last, name) / more * 1e8:.1f}" for name in _QUERIES)
        lines += [
            f"- {_QUERIES[0]} at {last['messages']:,}: {second / first:.2f} x that at {before['messages']:,}; at most 2 "
            f"{verdict(second <= 2 * first)}",
            f"- slope between the two, in ms a 100 M messages: {slopes}",
        ]
    return lines


def _slope(before: dict[str, Any], last: dict[str, Any], name: str) -> float:
    return pooled(last["queries"][name]["windows"], 0.5) - pooled(before["queries"][name]["windows"], 0.5)


def _beside(cells: Cells) -> list[str]:
    lines = [
        f"## Search: beside others, {cells[0]['messages']:,} messages",
        "",
        "p50 and p99 in milliseconds, newest 10, one call after the other. Seconds to take the messages in, from a generator",
        "in Python that needs some of them itself (tantivy's CPU seconds have it in them); CPU seconds of the one that takes",
        "them; fresh: from an acknowledgement to the response that has the message.",
        "",
        f"| | seconds | CPU | MB on disk | {' | '.join(_QUERIES)} | fresh, p50 |",
        "|---" * (len(_QUERIES) + 5) + "|",
    ]
    for cell in cells:
        each = []
        for name in _QUERIES:
            window = cell["queries"].get(name)
            each.append("-" if window is None else f"{pooled([window], 0.5):.2f} / {pooled([window], 0.99):.2f}")
        fresh = f"{pooled([cell['fresh']], 0.5):.1f}" if "fresh" in cell else "-"
        lines.append(
            f"| {cell['name']} | {cell['feed_seconds']:.1f} | {cell['cpu_seconds']:.1f} | {cell['disk_bytes'] / 1e6:,.0f} | "
            f"{' | '.join(each)} | {fresh} |"
        )
    return [*lines, "", *(f"- {cell['name']}: {cell['what']}" for cell in cells)]


PARTS: list[tuple[str, Callable[[Cells], list[str]]]] = [
    ("search-freshness", _freshness),
    ("search-produce", _produce),
    ("search-indexing", _indexing),
    ("search-queries", _queries),
    ("search-beside", _beside),
]


def draw(results: Results, directory: Path) -> None:
    """The plot of growth, where there are two sizes."""
    cells = sorted(results.part("search-queries"), key=lambda cell: int(cell["messages"]))
    if len(cells) > 1:
        lines = {
            name: [(float(cell["messages"]), pooled(cell["queries"][name]["windows"], 0.5)) for cell in cells]
            for name in _QUERIES
        }
        (directory / PLOT).write_text(plot(lines, "messages", "p50, ms"))
