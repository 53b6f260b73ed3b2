"""From a click command to a coroutine on the reactor and back: connection options, errors, exit codes.

A command's work is an `async` function of an `Access`. `run` starts the reactor, waits for it, and turns what went wrong into
one line on stderr and one of the documented exit codes. Ctrl-C cancels the work, which cleans up (a consumer commits and
leaves its group); a second Ctrl-C ends the process at once.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from chronik.errors import ChronikError, ErrorCode, KafkaError

if TYPE_CHECKING:
    from chronik.client.admin import Admin
    from chronik.client.cluster import ClusterClient

FAILED, USAGE, UNREACHABLE, TIMED_OUT, INTERRUPTED = 1, 2, 3, 4, 130
DEFAULT_BOOTSTRAP = "127.0.0.1:9092"


class CommandFailed(ChronikError):
    """A command could not do what it was asked to. The text is the whole line for the user."""


@dataclass
class Connecting:
    """The options of every command that talks to a cluster, after flags, environment and defaults."""

    bootstrap: str = DEFAULT_BOOTSTRAP
    timeout: float = 30.0
    output: str = "table"


@dataclass
class Access:
    """What a command's work is given."""

    reactor: Any
    cluster: ClusterClient
    admin: Admin
    connecting: Connecting


def run(connecting: Connecting, work: Callable[[Access], Awaitable[None]]) -> None:
    """Run `work` against the cluster, and exit with a code other than 0 when it fails."""
    from twisted.internet import reactor as installed_reactor
    from twisted.internet.defer import CancelledError, Deferred
    from twisted.python.failure import Failure

    from chronik.client.admin import Admin
    from chronik.client.cluster import ClusterClient

    reactor: Any = installed_reactor
    timeout = connecting.timeout
    outcome: list[BaseException | None] = []
    interrupted = False

    async def whole() -> None:
        cluster = ClusterClient(
            reactor,
            connecting.bootstrap,
            client_id="chronik-ctl",
            request_timeout=timeout,
            connect_timeout=min(timeout, 10.0),
        )
        try:
            await work(Access(reactor, cluster, Admin(cluster, timeout), connecting))
        finally:
            cluster.close()

    def start() -> None:
        task = Deferred.fromCoroutine(whole())

        def interrupt(number: int, frame: object) -> None:
            nonlocal interrupted
            if interrupted:
                os._exit(INTERRUPTED)
            interrupted = True
            reactor.callFromThread(task.cancel)

        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, interrupt)

        def ended(result: Failure | None) -> None:
            outcome.append(result.value if result is not None else None)
            reactor.stop()

        task.addBoth(ended)

    reactor.callWhenRunning(start)
    reactor.run(installSignalHandlers=False)
    problem = outcome[0] if outcome else None
    if interrupted and (problem is None or isinstance(problem, CancelledError)):
        sys.exit(INTERRUPTED)
    if problem is not None:
        sys.exit(report(problem, connecting))


def report(problem: BaseException, connecting: Connecting) -> int:
    """Say on stderr, in one line, what went wrong and what to do; return the exit code."""
    from chronik.client.errors import DeliveryTimedOut, RequestTimedOut, Unreachable

    if isinstance(problem, BrokenPipeError):
        # The reader of our output has gone, as `head` does: nobody wants the rest, nor a message at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    code = FAILED
    if isinstance(problem, Unreachable):
        code, line = UNREACHABLE, f"{problem}. {_start_hint(connecting.bootstrap)}"
    elif isinstance(problem, (RequestTimedOut, DeliveryTimedOut)):
        code, line = TIMED_OUT, f"{problem}. Wait longer with --timeout, or look at the broker's log"
    elif isinstance(problem, KafkaError):
        line = explain(problem, connecting.bootstrap)
    elif isinstance(problem, ChronikError):
        line = str(problem)
    elif isinstance(problem, OSError):
        line = f"{problem.filename}: {problem.strerror}" if problem.filename else str(problem.strerror or problem)
    else:
        if os.environ.get("CHRONIK_DEBUG"):
            import traceback

            traceback.print_exception(problem)
        line = (
            f"internal error: {type(problem).__name__}: {problem}. Set CHRONIK_DEBUG=1 for the traceback, and report it"
        )
    click.echo(f"chronik-ctl: {' '.join(line.split())}", err=True)
    return code


def _start_hint(bootstrap: str) -> str:
    hosts = {server.strip().rpartition(":")[0] or server for server in bootstrap.split(",")}
    if hosts <= {"127.0.0.1", "localhost", "[::1]"}:
        return "Start one with: twistd -n chronik"
    return "Check the address (-b HOST:PORT) and the network"


_HINTS = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: "does not exist. See: chronik-ctl topic list",
    ErrorCode.TOPIC_ALREADY_EXISTS: "already exists. See: chronik-ctl topic describe",
    ErrorCode.GROUP_ID_NOT_FOUND: "does not exist. See: chronik-ctl group list",
    ErrorCode.NON_EMPTY_GROUP: "still has members. Stop its consumers first",
    ErrorCode.UNKNOWN_MEMBER_ID: "has active members. Stop its consumers first",
    ErrorCode.TOPIC_AUTHORIZATION_FAILED: "is not yours to use. Ask for an ACL on it",
    ErrorCode.GROUP_AUTHORIZATION_FAILED: "is not yours to use. Ask for an ACL on it",
}


_BARE_NAME = re.compile(r"(topic|group) '[^']*'|the offset of group '[^']*' in \\S+")
"""A message that only names what was refused: the hint says why."""


def explain(problem: KafkaError, bootstrap: str) -> str:
    """A broker's refusal as a line for people, with what to do about it where that is known."""
    message = (problem.message or "the request").rstrip(".")
    hint = _HINTS.get(problem.code)
    if hint is not None and _BARE_NAME.fullmatch(message):
        return f"{message} {hint} ({problem.code.name} from {bootstrap})"
    return f"{message} ({problem.code.name} from {bootstrap})"
