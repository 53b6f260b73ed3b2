"""What processes that search are told and asked by name, and how one of them is furnished.

The node imports this module too, for the names: what is heavy (numpy, hyperscan) is imported in `furnish` only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from chronik.interfaces import IDisk
from chronik.log.disk import RealDisk
from chronik.model import PartitionId
from chronik.search.messages import (
    Answer,
    AskState,
    AskStatistics,
    Finish,
    Finished,
    Follow,
    Forget,
    Hits,
    Read,
    ReadResult,
    Rebuild,
    Save,
    Saved,
    Search,
    States,
)
from chronik.search.saved_messages import Counted, CountMatches, Piece, Select, Selected
from chronik.search.scoring import Statistics
from chronik.search.splits.messages import AskDue, Building, BuildSplit, Built, Due, SplitBuilt
from chronik.search.tail_messages import Choke, Ended, Matched, Replay, Replayed, Tail, Taken, Unwatch, Watch
from chronik.workers.messages import FromWorker, JobKind, NewsKind
from chronik.workers.residing import REST, Residence

_Result = TypeVar("_Result")
_SLICE_SECONDS = 0.004
"""How long a job that waits for a thread holds up the others."""

if TYPE_CHECKING:
    from chronik.search.splits.inverted import InvertedIndex

FOLLOW = NewsKind("follow", Follow)
"""A partition can be read so far."""
FORGET = NewsKind("forget", Forget)
"""A partition is gone."""
WATCH = NewsKind("watch", Watch)
"""Tails wait for what matches this query."""
UNWATCH = NewsKind("unwatch", Unwatch)
"""They don't any more."""
CHOKE = NewsKind("choke", Choke)
"""They can take nothing, or can again."""
TAKEN = NewsKind("taken", Taken)
"""So much of what was found is dealt with."""
TAIL = JobKind("tail", Tail, Matched, Ended)
"""Tell what is found for tails."""
REPLAY = JobKind("replay", Replay, Saved, Replayed)
"""What was found for a tail in the past?"""
STATE = JobKind("state", AskState, Saved, States)
"""How far have the indexes come?"""
REBUILD = JobKind("rebuild", Rebuild, Saved, States)
"""Make indexes anew."""
SEARCH = JobKind("search", Search, Hits, Answer)
"""Which records match?"""
READ = JobKind("read", Read, Saved, ReadResult)
"""What does a request ask for?"""
STATISTICS = JobKind("statistics", AskStatistics, Saved, Statistics)
"""What do scores go by?"""
FINISH = JobKind("finish", Finish, Hits, Finished)
"""What do the aggregations come to?"""
SAVE = JobKind("save", Save, Saved, Saved)
"""Write the open groups, for the next start."""
SELECT = JobKind("select", Select, Piece, Selected)
"""Which records does the topic of a saved search have?"""
COUNT = JobKind("count", CountMatches, Saved, Counted)
"""How many does it have, by windows of time?"""

DUE = JobKind("due", AskDue, Saved, Due)
"""Which splits are to be made?"""
SPLIT_BUILT = NewsKind("split-built", SplitBuilt)
"""A split that was due is there."""
BUILD_SPLIT = JobKind("build-split", BuildSplit, Building, Built)
"""Make one. A job of the pool, not of a process that searches."""


def furnish(disk: IDisk, send: Callable[[FromWorker], object], tell: Callable[[str], object]) -> Residence:
    """What a process that searches does. `tell` gets lines for the operator."""
    from chronik.native.scanner import make_scanner
    from chronik.search.answering import answer, statistics
    from chronik.search.counting import finished
    from chronik.search.engine import Engine
    from chronik.search.reading import read
    from chronik.search.replaying import replay
    from chronik.search.selecting import count, select
    from chronik.search.tailing import Tailing
    from chronik.search.writing import pieces

    writer = ThreadPoolExecutor(1, "chronik-search-writer")
    asking = ThreadPoolExecutor(1, "chronik-search-splits")

    def elsewhere(work: Callable[[], _Result]) -> Generator[None, None, _Result]:
        """In a thread: tantivy lets go of the interpreter while it searches."""
        future = asking.submit(work)
        while True:
            try:
                return future.result(_SLICE_SECONDS)
            except TimeoutError:
                yield

    # An inverted index is in files, by tantivy's own way to them.
    open_index = _open_index if isinstance(disk, RealDisk) else None
    engine = Engine(disk, make_scanner(), writer.submit, tell, open_index=open_index, elsewhere=elsewhere)
    tailing = Tailing(engine.index_of, engine.scanner, time.monotonic)

    def follow(news: Follow) -> None:
        engine.follow(news)
        tailing.followed(PartitionId(news.topic_id, news.partition))

    def tail(_: Tail) -> Steps:
        tailing.forget_sent()
        while True:
            told = tailing.step()
            yield told if told is not None or not tailing.idle else REST

    def replayed(request: Replay) -> Steps:
        return replay(engine, request, time.monotonic)

    def save(_: Save) -> Steps:
        engine.save()
        return Saved()
        yield

    def state(asked: AskState) -> Steps:
        return engine.states(asked)
        yield

    def due(asked: AskDue) -> Steps:
        return engine.due(asked)
        yield

    def rebuild(asked: Rebuild) -> Steps:
        return engine.rebuild(asked)
        yield

    def finish(asked: Finish) -> Steps:
        for piece in pieces(finished(asked.aggs, asked.mapping, asked.now_ms, asked.counted)):
            yield Hits((), aggs=piece)
        return Finished()

    def read_request(asked: Read) -> Steps:
        return read(asked)
        yield

    def search(request: Search) -> Steps:
        return answer(engine, request, time.monotonic)

    return Residence(
        {
            SEARCH: search,
            READ: read_request,
            STATISTICS: lambda asked: statistics(engine, asked),
            FINISH: finish,
            SAVE: save,
            STATE: state,
            DUE: due,
            REBUILD: rebuild,
            SELECT: lambda request: select(engine, request, time.monotonic),
            COUNT: lambda request: count(engine, request, time.monotonic),
            TAIL: tail,
            REPLAY: replayed,
        },
        {
            FOLLOW: follow,
            FORGET: engine.forget,
            SPLIT_BUILT: engine.built,
            WATCH: tailing.watch,
            UNWATCH: tailing.unwatch,
            CHOKE: tailing.choke,
            TAKEN: tailing.taken,
        },
        engine.step,
        send,
        time.monotonic,
    )


def _open_index(path: str) -> InvertedIndex:
    from chronik.search.splits.inverted import InvertedIndex

    return InvertedIndex(path)


def build_split(request: BuildSplit, disk: IDisk, report: Callable[[Building], object]) -> Built:
    """Make a split, in a process of the pool."""
    from chronik.native.scanner import make_scanner
    from chronik.search.splits.building import build

    return build(request, disk, make_scanner(), report)


Steps = Generator[Any, None, msgspec.Struct]
