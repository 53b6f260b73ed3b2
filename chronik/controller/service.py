"""The controller in the world: it takes commands, decides them in order, logs the records and answers when they are replayed.

There are two images. The committed one is the replicated log's state machine and what everybody reads; it holds what is
logged. The deciding one is ahead of it by the proposals under way: each decision is made against it and replayed into it
at once, before the next is made, and proposals go to the log in the order of the decisions. So the second of two racing
creations of a name is refused, and many commands can still share one write of the log. A command that needs no record (a
refusal, or one that changes nothing) is answered only after everything decided before it is logged: no answer speaks of a
state that a crash could still undo.

When the log refuses a proposal (it lost the lead, or it is lost), the deciding image is ahead of what will ever be logged. It
is then made again from the committed one, after all proposals under way are settled; until then commands are refused with
NOT_CONTROLLER, which clients retry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure
from zope.interface import implementer

from chronik.controller.commands import Command
from chronik.controller.controller import Rules, decide
from chronik.controller.image import MetadataImage
from chronik.controller.records import encode_record
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IController, IReplicatedLog


@implementer(IController)
class Controller:
    """Changes cluster metadata through `log`. `image` is the committed image, an `IClusterMetadata` for everybody."""

    def __init__(self, image: MetadataImage, log: IReplicatedLog, rules: Rules) -> None:
        self.image = image
        self._log = log
        self._rules = rules
        self._deciding: MetadataImage | None = None
        self._stopped = False
        self._under_way = 0
        self._settled: list[Callable[[], None]] = []

    def start(self) -> Deferred[None]:
        """Replay the log into the image; fires when commands can be decided."""

        def replayed(_: None) -> None:
            self._deciding = self._copy()

        return self._log.start(self.image).addCallback(replayed)

    def stop(self) -> Deferred[None]:
        """Take no more commands, finish what is under way, and release the log."""
        self._stopped, self._deciding = True, None
        return self._log.stop()

    def propose(self, command: object, use_quota: Callable[[int], None] | None = None) -> Deferred[Any]:
        """Carry out a command of `chronik.controller.commands`; fire with its result. Refusals fail with KafkaError.

        `use_quota` is that of `Rules`, for this command.
        """
        image = self._deciding
        if image is None:
            return fail(KafkaError(ErrorCode.NOT_CONTROLLER, "this node does not decide about metadata now"))
        try:
            rules = self._rules if use_quota is None else replace(self._rules, use_quota=use_quota)
            records, result = decide(image, _checked(command), rules)
        except KafkaError as refusal:
            return self._after_all_before(refusal)
        if not records:
            return self._after_all_before(result)
        image.apply_records(image.version + 1, records)
        self._under_way += 1
        answer: Deferred[Any] = Deferred()  # the caller's own: to cancel it cancels the answer, not the change

        def logged(_: int) -> None:
            answer.callback(result)
            self._one_settled()

        def refused(failure: Failure) -> None:
            self._deciding = None
            answer.errback(failure)
            self._one_settled()

        self._log.propose([encode_record(record) for record in records]).addCallbacks(logged, refused)
        return answer

    def _after_all_before(self, answer: object) -> Deferred[Any]:
        """Give `answer`, or fail with it, once all proposals that are under way now are settled: the log settles in order."""
        ahead = self._under_way
        waiting: Deferred[Any] = Deferred()

        def give() -> None:
            if isinstance(answer, KafkaError):
                waiting.errback(answer)
            else:
                waiting.callback(answer)

        def one_less() -> None:
            nonlocal ahead
            ahead -= 1
            if ahead == 0:
                self._settled.remove(one_less)
                give()

        if ahead:
            self._settled.append(one_less)
        else:
            give()
        return waiting

    def _one_settled(self) -> None:
        self._under_way -= 1
        for note in tuple(self._settled):
            note()
        if self._deciding is None and not self._under_way and not self._stopped:
            self._deciding = self._copy()

    def _copy(self) -> MetadataImage:
        copy = MetadataImage(self.image.cluster_id, self.image.controller_id)
        copy.restore(self.image.version, self.image.snapshot())
        return copy


def _checked(command: object) -> Command:
    if not isinstance(command, Command):
        raise TypeError(f"{command!r} is no command of the controller")
    return command
