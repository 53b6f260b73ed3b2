"""A form of a query put to a world in every way, and its hits held against a plain look at every record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from chronik.search.answering import answer
from chronik.search.document import Document
from chronik.search.messages import Answer, Costs, Hit, Hits, Read, Search, SearchedPart
from chronik.search.query import decode
from chronik.search.reading import read
from tests.search import oracle
from tests.search.records import NOW
from tests.search.truth.forms import Form, Where
from tests.search.truth.worlds import TIERS, TOPIC, TOPIC_ID, World

ALL_HITS = 1_000_000
FEW = 5


class _Clock:
    """Every look takes a millisecond."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


class Seen:
    """What the searches so far went through: `_explain`'s figures by tier, queries, those that found something."""

    def __init__(self) -> None:
        self.costs = {tier: Costs() for tier in TIERS}
        self.queries = self.refused = self.found = 0
        self.explained = {"tokens": 0, "literals": 0, "timestamps": 0, "offsets": 0, "partitions": 0}

    def add(self, tier: str, costs: Costs) -> None:
        """Another answer's costs."""
        total = self.costs[tier]
        for name in Costs.__struct_fields__:
            setattr(total, name, getattr(total, name) + getattr(costs, name))


def true_hits(world: World, form: Form) -> set[tuple[int, int]] | None:
    """Partition and offset of every record that is a hit; None where the query does not fit its fields."""
    where = {each.number: Where(world.mapping, TOPIC, each.number) for each in world.partitions}
    try:
        return {
            (partition, record.offset) for partition, record in world.truth() if form.means(record, where[partition])
        }
    except oracle.Refused:
        return None


def ways(form: Form) -> Iterator[tuple[dict[str, str], bytes]]:
    """A URL's parameters and a body, for every way to ask."""
    if form.text is not None:
        yield {"q": form.text}, b""
    if form.body is not None:
        yield {}, json.dumps({"query": form.body}).encode()


def judge(world: World, form: Form, seen: Seen) -> None:
    """Raises AssertionError where a search finds anything else than what is there."""
    truth = true_hits(world, form)
    records = {(partition, record.offset): record for partition, record in world.truth()}
    for parameters, body in ways(form):
        asked = f"{parameters or body.decode()}"
        seen.queries += 1
        told = read(Read("explain", parameters, body, NOW, world.mapping))
        if told.fault is not None:
            assert truth is None, f"{asked} was refused: {told.fault.reason}"
            seen.refused += 1
            continue
        if truth is None:
            continue  # a clause that does not fit its field was left out, as it changed nothing
        assert told.request is not None
        assert told.explanation is not None
        for name in seen.explained:
            seen.explained[name] += getattr(told.explanation, name) is not None
        seen.found += bool(truth)
        query = decode(told.request.query)
        for tier in TIERS:
            whole = _search(world, tier, query, ALL_HITS, -1, seen)
            _compare(f"{asked} by {tier}", whole, truth, records)
            few = _search(world, tier, query, FEW, 0, seen)
            order = [(hit.part, hit.offset) for hit in whole]
            assert [(hit.part, hit.offset) for hit in few] == order[:FEW], f"{asked} by {tier}: the newest {FEW}"


def _search(world: World, tier: str, query: Any, size: int, count_to: int, seen: Seen) -> list[Hit]:
    parts = tuple(
        SearchedPart(TOPIC, TOPIC_ID, each.number, 0, each.stable, world.mapping) for each in world.partitions
    )
    request = Search(query=query, parts=parts, now_ms=NOW, size=size, count_to=count_to, seconds=1e9)
    steps, hits = answer(world.engines[tier], request, _Clock()), []
    while True:
        try:
            some = next(steps)
        except StopIteration as end:
            done: Answer = end.value
            break
        if isinstance(some, Hits):
            hits += some.hits
    hits += done.hits
    assert not done.failures and not done.unknown and not done.timed_out, done
    if count_to < 0:
        assert done.exact and done.total == len(hits), (done.exact, done.total, len(hits))
    seen.add(tier, done.costs)
    return hits


def _compare(
    asked: str, hits: list[Hit], truth: set[tuple[int, int]], records: dict[tuple[int, int], Document]
) -> None:
    found = [(hit.part, hit.offset) for hit in hits]
    assert len(found) == len(set(found)), f"{asked} finds a record twice"
    for what, places in (("misses", truth - set(found)), ("finds wrongly", set(found) - truth)):
        for partition, offset in sorted(places):
            record = records.get((partition, offset))
            shown = "a record that does not count" if record is None else shown_record(record)
            raise AssertionError(
                f"{asked} {what} {len(places)} of {len(truth)} hits, such as {partition}:{offset}, {shown}"
            )
    for hit in hits:
        record = records[hit.part, hit.offset]
        same = (hit.timestamp, hit.key, hit.value, list(hit.headers)) == (
            record.timestamp, record.key, record.value, list(record.headers),
        )  # fmt: skip
        assert same, f"{asked}: {hit} is shown for {shown_record(record)}"
    times = [hit.timestamp for hit in hits if hit.timestamp != -1]
    assert times == sorted(times, reverse=True), f"{asked}: not the newest first"


def shown_record(record: Document) -> str:
    """A record, for a person."""
    return f"value={record.value!r} key={record.key!r} headers={record.headers!r} at {record.timestamp}"
