"""RESULTS.md out of the raw results: what was measured, on what, with which intervals, and whether each bar holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chronik
from benchmarks import machine
from benchmarks.brokers import CHRONIK, KAFKA
from benchmarks.figures import interval, pooled, quiet, steal, verdict
from benchmarks.results import Results
from benchmarks.search import report as search_report
from benchmarks.statistics import combine, median, paired_ratio
from tests.peers.apache_kafka import VERSION

PATH = Path(__file__).parent / "RESULTS.md"
QUIET_SECONDS = 60.0


def write(results: Results, path: Path = PATH) -> None:
    """Write the whole report; parts without results are left out."""
    parts: list[tuple[str, Callable[[list[dict[str, Any]]], list[str]]]] = [
        ("throughput", _throughput),
        ("latency", _latency),
        ("requests", _requests),
        ("stages", _stages),
        ("transactions", _transactions),
        ("tails", _tails),
        ("memory", _memory),
        ("native", _native),
        *search_report.PARTS,
    ]
    lines = [
        "# Benchmark results",
        "",
        "Written by `python -m benchmarks`; the raw windows are in `results/`. Ratios are Chronik to Apache Kafka, from",
        "alternating pairs of windows in the same run, as geometric means with 95 % intervals (Student's t on logarithms).",
        "Steal is the share of all CPU time that the machine's neighbours took during a window.",
        "",
    ]
    lines += [f"- {name}: {value}" for name, value in machine.describe(chronik.__version__, VERSION).items()]
    for name, render in parts:
        cells = results.part(name)
        if cells:
            lines += ["", *render(cells)]
    path.write_text("\n".join(lines) + "\n")
    search_report.draw(results, path.parent)


def _rates(cell: dict[str, Any], broker: str) -> list[float]:
    return [window["report"]["messages_per_second"] for window in cell["windows"][broker]]


def _cpu_per_gigabyte(cell: dict[str, Any], broker: str) -> float:
    costs = [
        window["broker_cpu"] / (window["report"]["bytes"] / 1e9)
        for window in cell["windows"][broker]
        if window["report"]["bytes"]
    ]
    return median(costs)


def _steal(cell: dict[str, Any]) -> str:
    return steal(window for windows in cell["windows"].values() for window in windows)


def _throughput(cells: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## Throughput",
        "",
        "| cell | Chronik, msg/s | Kafka, msg/s | ratio | Chronik, CPU-s/GB | Kafka, CPU-s/GB | steal, median (worst) |",
        "|---|---|---|---|---|---|---|",
    ]
    ratios, costs, best = [], [], 0.0
    for cell in sorted(cells, key=lambda cell: str(cell["name"])):
        ours, theirs = _rates(cell, CHRONIK), _rates(cell, KAFKA)
        ratio = paired_ratio(ours, theirs)
        our_cost, their_cost = _cpu_per_gigabyte(cell, CHRONIK), _cpu_per_gigabyte(cell, KAFKA)
        ratios.append(ratio)
        costs.append(our_cost / their_cost if their_cost else math.nan)
        if cell["cell"]["size"] == 100:
            best = max(best, median(ours))
        lines.append(
            f"| {cell['name']} | {median(ours):,.0f} | {median(theirs):,.0f} | {interval(ratio)} | {our_cost:.2f} | "
            f"{their_cost:.2f} | {_steal(cell)} |"
        )
    total = combine(ratios)
    fair = total.mean >= 1
    low = sum(ratio.high < 0.95 for ratio in ratios)
    cost = median(costs)
    lines += [
        "",
        f"- geometric mean of the ratios over {total.pairs} cells: {interval(total)}; at least 1.0 {verdict(fair)}",
        f"- cells with an interval wholly below 0.95: {low}; none {verdict(low == 0)}",
        f"- broker CPU-seconds a GB, median of the cells' ratios: {cost:.2f}; at most 0.7 {verdict(cost <= 0.7)}",
        f"- best median of a 100-byte cell: {best:,.0f} msg/s; 1,000,000 {verdict(best >= 1e6)}",
    ]
    return lines


def _latency(cells: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## Produce latency",
        "",
        "Milliseconds from a message's place in the schedule to its acknowledgement, 100 bytes, 6 partitions, acks=1. A quiet",
        "window is one with at most 1 % steal; a bar needs 60 s of them, of both brokers.",
        "",
        "| msg/s | linger | broker | windows | p50 | p99 | p99.9 | quiet seconds | quiet p99 | steal by window |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    verdicts = []
    for cell in cells:
        quiet_p99: dict[str, float] = {}
        for broker in (CHRONIK, KAFKA):
            windows = cell["windows"][broker]
            calm = quiet(windows)
            seconds = sum(window["report"]["seconds"] for window in calm)
            quiet_p99[broker] = pooled(calm, 0.99) if seconds >= QUIET_SECONDS else math.nan
            lines.append(
                f"| {cell['rate']:,} | {cell['linger']} | {broker} | {len(windows)} | {pooled(windows, 0.5):.2f} | "
                f"{pooled(windows, 0.99):.2f} | {pooled(windows, 0.999):.2f} | {seconds:.0f} | "
                f"{pooled(calm, 0.99) if calm else math.nan:.2f} | "
                f"{' '.join(format(window['steal'], '.1%') for window in windows)} |"
            )
        ours, theirs = quiet_p99[CHRONIK], quiet_p99[KAFKA]
        if math.isnan(ours) or math.isnan(theirs):
            said = "not shown: too few quiet windows"
        else:
            holds = verdict(ours < 10 and ours <= theirs)
            said = f"{ours:.2f} ms against {theirs:.2f}: under 10 ms and at most Kafka's {holds}"
        verdicts.append(f"- {cell['rate']:,} msg/s, linger {cell['linger']} ms, p99: {said}")
    return [*lines, "", *verdicts]


def _requests(cells: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## Requests",
        "",
        "Raw sockets, idempotent batches, acks=all, metrics on.",
        "",
        "| load | Chronik, requests/s | Kafka, requests/s | ratio | Chronik, MB/s | Chronik, CPU-us a request | "
        "p99 ms, Chronik | p99 ms, Kafka | steal, median (worst) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    verdicts = []
    for cell in cells:
        records = cell["shape"]["records"]
        ours = [rate / records for rate in _rates(cell, CHRONIK)]
        theirs = [rate / records for rate in _rates(cell, KAFKA)]
        ratio = paired_ratio(ours, theirs)
        windows = cell["windows"][CHRONIK]
        cost = median(
            [1e6 * w["broker_cpu"] * records / w["report"]["messages"] for w in windows if w["report"]["messages"]]
        )
        volume = median([w["report"]["megabytes_per_second"] for w in windows])
        lines.append(
            f"| {cell['name']} | {median(ours):,.0f} | {median(theirs):,.0f} | {interval(ratio)} | {volume:,.0f} | "
            f"{cost:.1f} | {pooled(windows, 0.99):.2f} | {pooled(cell['windows'][KAFKA], 0.99):.2f} | {_steal(cell)} |"
        )
        if records == 1:
            holds = median(ours) >= 30_000 and ratio.mean >= 1
            verdicts.append(
                f"- one-record requests: {median(ours):,.0f}/s, {ratio.mean:.2f} x Kafka's; at least 30,000 and Kafka's "
                f"{verdict(holds)}; the aim of 40,000 is {'reached' if median(ours) >= 40_000 else 'not reached'}"
            )
    return [*lines, "", *verdicts]


def _stages(cells: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## Stages of a one-record request",
        "",
        "In one process without sockets, microseconds a request, the best of five runs; a later line contains earlier ones.",
        "",
        "| stage | us |",
        "|---|---|",
    ]
    return lines + [f"| {name} | {cost:.2f} |" for cell in cells for name, cost in cell["microseconds"].items()]


def _transactions(cells: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## Transactions",
        "",
        "100 messages of 100 bytes a transaction over 6 partitions; latency from begin to committed.",
        "",
        "| load | Chronik, messages/s | Kafka, messages/s | ratio | median of the pairs | p50 ms, Chronik | p50 ms, Kafka | "
        "p99 ms, Chronik | p99 ms, Kafka | steal, median (worst) |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    verdicts = []
    for cell in cells:
        ours, theirs = _rates(cell, CHRONIK), _rates(cell, KAFKA)
        middle = median([a / b for a, b in zip(ours, theirs, strict=False) if b])
        quantiles = [
            f"{pooled(cell['windows'][broker], part):.2f}" for part in (0.5, 0.99) for broker in (CHRONIK, KAFKA)
        ]
        lines.append(
            f"| {cell['name']} | {median(ours):,.0f} | {median(theirs):,.0f} | {interval(paired_ratio(ours, theirs))} | "
            f"{middle:.2f} | {' | '.join(quantiles)} | {_steal(cell)} |"
        )
        verdicts.append(f"- {cell['name']}: median ratio {middle:.2f}; at least 1.0 {verdict(middle >= 1)}")
    return [*lines, "", *verdicts]


def _tails(cells: list[dict[str, Any]]) -> list[str]:
    lines = ["## Live tails", ""]
    for cell in cells:
        windows, node = cell["windows"], cell["node_counted"]
        runs = [cell["warmup"], *windows]
        wanted = sum(window["asked"]["wanted"] for window in runs)
        got, dropped = (sum(window["heard"][name] for window in runs) for name in ("delivered", "dropped"))
        lines += [
            f"{cell['clients']:,} clients with {cell['queries']:,} different queries, one process that searches; connected in "
            f"{cell['connected_seconds']:.0f} s, the node then {cell['resident_kilobytes'] / 1024:.0f} MB resident.",
            "Milliseconds from a message's place in the schedule until a client has it; the broker's are those of a probe,",
            "500 one-record requests a second with acks=all, to a topic that nobody tails. CPU is that of the node and of the",
            "process that searches, as a share of one processor.",
            "",
            "| messages/s | deliveries/s wanted | delivered | told of as dropped | p50 | p99 | worst | broker p50 | "
            "broker p99 | node CPU | search CPU | steal |",
            "|---" * 12 + "|",
        ]
        for window in windows:
            asked, heard, seconds = window["asked"], window["heard"], window["asked"]["seconds"]
            tailed, probed, cpu = [{"report": heard}], [window], window["cpu"]
            share = f"{heard['delivered'] / asked['wanted']:.2%}" if asked["wanted"] else "-"
            lines.append(
                f"| {asked['messages'] / seconds:,.0f} | {asked['wanted'] / seconds:,.0f} | {share} | {heard['dropped']:,} | "
                f"{pooled(tailed, 0.5):.1f} | {pooled(tailed, 0.99):.1f} | {heard['max_us'] / 1000:.0f} | "
                f"{pooled(probed, 0.5):.2f} | {pooled(probed, 0.99):.2f} | {cpu['node'] / seconds:.2f} | "
                f"{cpu['search'] / seconds:.2f} | {window['steal']:.1%} |"
            )
        calm = quiet(windows)
        quiet_seconds = sum(window["report"]["seconds"] for window in calm)
        lines += [
            "",
            f"- of {wanted:,} deliveries {got:,} came, {got / wanted:.3%}; at least 99 % {verdict(got >= 0.99 * wanted)}",
            f"- clients were told of {dropped:,} that were dropped, the node counts {node['dropped']:,.0f}; every one is "
            f"counted {verdict(got + dropped == wanted and not cell['clients_end']['closed'])}",
        ]
        if quiet_seconds < QUIET_SECONDS:
            lines.append(f"- latencies: not shown, only {quiet_seconds:.0f} s were quiet")
            continue
        late = pooled([{"report": window["heard"]} for window in calm], 0.99)
        broker_late = pooled(calm, 0.99)
        lines += [
            f"- p99 over {quiet_seconds:.0f} quiet seconds: {late:.1f} ms; at most 500 {verdict(late <= 500)}",
            f"- broker p99 meanwhile: {broker_late:.2f} ms; under 10 {verdict(broker_late < 10)}",
        ]
    return lines


def _memory(cells: list[dict[str, Any]]) -> list[str]:
    lines = ["## Memory and start-up", ""]
    for cell in cells:
        if cell["name"] == "idle":
            idle, each = cell["idle_kilobytes"] / 1024, cell["kilobytes_per_connection"]
            lines += [
                f"- idle node: {idle:.0f} MB resident; under 120 MB {verdict(idle < 120)}",
                f"- {cell['connections']:,} idle connections: {each:.1f} KB each; under 20 KB {verdict(each < 20)}",
            ]
        else:
            first, later, starts = cell["metadata_after_restart_ms"], cell["metadata_ms"], cell["start_seconds"]
            worst = max(first["median"], later["median"])
            lines += [
                f"- {cell['topics']:,} topics x {cell['partitions']} partitions at `ulimit -n {cell['descriptors']}`: "
                f"created in {cell['created_seconds']:.1f} s, {cell['resident_kilobytes'] / 1024:.0f} MB resident, "
                f"{cell['restarted_kilobytes'] / 1024:.0f} MB after a restart",
                f"- Metadata of all of them ({later['bytes'] / 1000:.0f} KB): median {later['median']:.2f} ms, worst of 50 "
                f"{later['worst']:.2f} ms, first after a restart {first['first']:.2f} ms; under 5 ms {verdict(worst < 5)}",
                f"- start-up: {starts:.2f} s, after kill -9 {cell['start_after_kill_seconds']:.2f} s; under 5 s "
                f"{verdict(max(starts, cell['start_after_kill_seconds']) < 5)}",
            ]
    return lines


def _native(cells: list[dict[str, Any]]) -> list[str]:
    """The tables of `benchmarks.native`."""
    lines = [
        "## Native code",
        "",
        "In memory, one thread, per second of its CPU time, the best of several runs; MB are of records decoded. `stored to",
        "signature` is what indexing does with a segment's bytes: headers and CRCs, lz4, tokens, bits, fold.",
        "",
        "| records in a batch | task | C, records/s | C, MB/s | numpy, records/s | numpy, MB/s | plain Python, records/s |",
        "|---|---|---|---|---|---|---|",
    ]
    for cell in sorted((cell for cell in cells if "rates" in cell), key=lambda cell: -int(cell["records_in_batch"])):
        for task, ours in cell["rates"]["C"].items():
            twin, plain = cell["rates"]["numpy"][task], cell["rates"]["plain Python"].get(task)
            lines.append(
                f"| {cell['records_in_batch']:,} | {task} | {ours['records_per_second']:,.0f} | "
                f"{ours['megabytes_per_second']:,.0f} | {twin['records_per_second']:,.0f} | "
                f"{twin['megabytes_per_second']:,.0f} | {format(plain['records_per_second'], ',.0f') if plain else '-'} |"
            )
    lines += ["", f"Compiled by {', '.join(sorted({cell['compiler'] for cell in cells if 'rates' in cell}))}."]
    for cell in cells:
        if "rows" in cell:
            sizes = sorted({row["bits"] for row in cell["rows"]})
            shares = [f"{bits:,} bits, {bits / 8 / cell['bytes_in_block']:.1%}" for bits in sizes]
            lines += [
                "",
                "False positives of a token that is not there, and the share of bits set. A block has "
                f"{cell['bytes_in_block']:,.0f} bytes decoded and {cell['distinct_tokens']:,.0f} different tokens; percentages "
                "are of the block's bytes.",
                "",
                f"| bits a token | {' | '.join(shares)} |",
                "|---" * (len(sizes) + 1) + "|",
            ]
            for hashes in sorted({row["hashes"] for row in cell["rows"]}):
                found = {row["bits"]: row for row in cell["rows"] if row["hashes"] == hashes}
                each = [f"{found[bits]['wrong']:.1e} ({found[bits]['filled']:.0%})" for bits in sizes]
                lines.append(f"| {hashes} | {' | '.join(each)} |")
    return lines
