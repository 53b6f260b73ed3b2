"""`twistd chronik`: the command line, and how a failure that ends the process is told: one line, exit status 1.

The common options have flags of their own; every other option of `chronik.config` is set with `--set name=value`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

import chronik
from chronik.config import OPTIONS, Config
from chronik.errors import ChronikError, ConfigError
from chronik.garbage import collect_seldom
from chronik.malloc import keep_freed_memory

_log = Logger()

_FLAGS = {option.flag: name for name, option in OPTIONS.items() if option.flag is not None}


class Options(usage.Options):
    """The flags of `twistd chronik`. After parsing, `config` is the resolved Config."""

    synopsis = "[options]"
    longdesc = (
        "Runs one Chronik Stream node: a Kafka broker. A value comes from its flag, else from the environment variable "
        "CHRONIK_<OPTION>, else from the configuration file, else it is the default. etc/chronik.yaml explains every option."
    )
    optParameters = [  # noqa: RUF012  twisted.python.usage reads it
        ["config", "c", None, "Configuration file (YAML) [default: $CHRONIK_CONFIG, or none]"],
        ["role", None, None, "What this node does; only 'all' is built [default: all]"],
        ["node-id", None, None, "This node's number in its cluster [default: 1]"],
        ["data-dir", "d", None, "Where the node keeps its data [default: $METADATA_PATH, or ./chronik-data]"],
        ["listen", "l", None, "Where Kafka clients connect [default: $KAFKA_LISTENERS, or PLAINTEXT://127.0.0.1:9092]"],
        ["advertise", None, None, "What clients are told to dial [default: the address that they dialled]"],
        ["admin-listen", None, None, "Where REST API and /metrics are served, or 'none' [default: 127.0.0.1:8080]"],
        ["search-listen", None, None, "Where messages are searched by HTTP, or 'none' [default: 127.0.0.1:9200]"],
    ]
    config: Config

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.environment: dict[str, str] = dict(os.environ)
        self._set: dict[str, str] = {}

    def opt_set(self, assignment: str) -> None:
        """Set any option, as name=value; may be repeated."""
        name, equals, value = assignment.partition("=")
        if not equals:
            raise usage.UsageError(f"--set {assignment}: write it as --set name=value")
        self._set[name] = value

    opt_s = opt_set

    def opt_version(self) -> NoReturn:
        """Display Chronik's version and exit."""
        print(f"Chronik Stream {chronik.__version__}")
        sys.exit(0)

    def parseArgs(self, *unexpected: str) -> None:
        """There are no positional arguments."""
        if unexpected:
            raise usage.UsageError(f"unexpected argument {unexpected[0]!r}; see twistd chronik --help")

    def postOptions(self) -> None:
        """Resolve the configuration; a fault in it ends the process with its one line."""
        flags = {name: self[flag] for flag, name in _FLAGS.items() if self[flag] is not None}
        try:
            self.config = Config.resolve({**self._set, **flags}, self.environment, self["config"])
        except ConfigError as error:
            sys.exit(f"chronik: {error}")


def makeService(options: Options) -> IService:
    """The node that `options` describe, as twistd wants it."""
    keep_freed_memory()
    collect_seldom()
    from chronik.services import make_node  # late: it imports what installs the reactor, which twistd chooses first

    parent: Any = getattr(options, "parent", None) or {}
    node: IService = make_node(options.config, exit_on(parent.get("pidfile")))
    return node


def exit_on(pid_file: str | None, exit_process: Callable[[int], None] = os._exit) -> Callable[[Failure], None]:
    """What ends the process when told of a failure: one line on stderr, no traceback for faults that have a name.

    It ends at once and closes nothing. After a lost write, what is in memory is no longer the truth; and at a failed start
    there is nothing left to close. Anything but a ChronikError is a defect, so its traceback goes to the log first.
    """

    def fatal(failure: Failure) -> None:
        if isinstance(failure.value, ChronikError):
            line = failure.getErrorMessage()
        else:
            _log.failure("the node stops", failure)
            line = f"the node stops on an unexpected failure, see its log: {failure.getErrorMessage()}"
        print(f"chronik: {line}", file=sys.__stderr__, flush=True)
        sys.stdout.flush()
        if pid_file and os.path.exists(pid_file):
            os.remove(pid_file)
        exit_process(1)

    return fatal
