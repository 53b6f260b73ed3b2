"""A node's partitions in memory, with what searches them: the real engine, whose jobs are done on the spot or when told to."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail

from chronik.broker.followed import FollowedLogs
from chronik.broker.saved_partition import SavedPartition
from chronik.broker.saved_topics import SavedTopics
from chronik.controller.commands import SaveSearch
from chronik.native.scanner import make_scanner
from chronik.search.engine import Engine
from chronik.search.following import Following
from chronik.search.messages import Follow
from chronik.search.saved_messages import Piece, Select
from chronik.search.saved_service import Selecting
from chronik.search.selecting import count, select
from chronik.telemetry.metrics import TopicMetrics
from chronik.workers.failures import WorkerLostError
from tests.listeners.handlers.hosting import Hosting

SCANNER = make_scanner()


class SearchHosting(Hosting):
    """`saved` finds what can be read. While `held` is a list, jobs wait in it for `work`; while `lost`, they fail.

    `jobs` has all requests so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held: list[tuple[Any, Deferred[Any], Any]] | None = None
        self.lost = False
        self.jobs: list[Any] = []
        self.lines: list[str] = []
        self.begin_anew()
        self.following = Following(
            FollowedLogs(self.replicas.partition_by_id), 1, self._tell, lambda each: f"/search/{each}", self.clock
        )
        self.replicas.add_host(self.following)
        selecting = Selecting(self.following, self._ask, self.clock)
        self.saved = SavedTopics(self.replicas, self.image, selecting, TopicMetrics, self.clock)  # type: ignore[arg-type]

    def begin_anew(self) -> None:
        """The process that searches knows nothing any more, and isn't told yet."""
        self.engine = Engine(self.disk, SCANNER, self._write, self.lines.append)

    def save(self, name: str, source: str, query: str) -> None:
        """Save a search."""
        self.cluster.do(SaveSearch(name, source, query))

    def view(self, name: str, index: int = 0) -> SavedPartition:
        """The partition of a saved search."""
        found = self.saved.partition(name, index)
        assert isinstance(found, SavedPartition)
        return found

    def work(self) -> None:
        """Do all jobs that are held, and those that come of them."""
        while self.held:
            self.do_one()

    def do_one(self) -> None:
        """Do the first job that is held."""
        assert self.held
        self._do(*self.held.pop(0))

    def _tell(self, place: int, news: Any) -> None:
        if isinstance(news, Follow):
            self.engine.follow(news)
        else:
            self.engine.forget(news)

    def _ask(self, place: int, request: Any, silence_seconds: float, progress: Any = None) -> Deferred[Any]:
        if self.lost:
            return fail(WorkerLostError("killed"))
        self.jobs.append(request)
        answer: Deferred[Any] = Deferred()
        if self.held is None:
            self._do(request, answer, progress)
        else:
            self.held.append((request, answer, progress))
        return answer

    def _do(self, request: Any, answer: Deferred[Any], progress: Any) -> None:
        if self.lost:
            answer.errback(WorkerLostError("killed"))
            return
        steps: Any = (select if isinstance(request, Select) else count)(self.engine, request, lambda: 0.0)
        while True:
            try:
                told = next(steps)
            except StopIteration as end:
                answer.callback(end.value)
                return
            except Exception as error:
                answer.errback(error)
                return
            if isinstance(told, Piece):
                progress(told)

    def _write(self, job: Any) -> Any:
        raise AssertionError("no group is full in these tests")
