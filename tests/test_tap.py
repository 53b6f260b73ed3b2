"""The command line as twistd runs it, in processes of their own; the plugin; how a fatal failure is told."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
from pathlib import Path

from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from chronik import __version__
from chronik.config import OPTIONS
from chronik.data_directory import hold
from chronik.errors import DataDirectoryError
from chronik.tap import Options, exit_on

ROOT = Path(__file__).parent.parent


def twistd(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run twistd with `arguments` in the current (temporary) directory, on this source tree."""
    return subprocess.run(
        [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class CommandLine(SynchronousTestCase):
    def test_help_names_the_flags(self) -> None:
        done = twistd("-n", "chronik", "--help")
        self.assertEqual(done.returncode, 0, done.stderr)
        for flag in ("--role", "--config", "--data-dir", "--listen", "--admin-listen", "--search-listen", "--set"):
            self.assertIn(flag, done.stdout)

    def test_version(self) -> None:
        done = twistd("-n", "chronik", "--version")
        self.assertEqual((done.returncode, done.stdout.strip()), (0, f"Chronik Stream {__version__}"))

    def test_refusals_are_one_line_and_status_1(self) -> None:
        for arguments, environment, expected in [
            (["--role=query"], {}, "role 'query' is not built yet"),
            (["--role=ingest,query"], {}, "role 'ingest,query' is not built yet"),
            (["--role=al"], {}, "did you mean all?"),
            (["--config=/nonexistent"], {}, "configuration file /nonexistent cannot be read"),
            ([], {"CHRONIK_NODE_ID": "x"}, "environment variable CHRONIK_NODE_ID: node_id: 'x' is not a whole number"),
        ]:
            done = twistd("-n", "chronik", *arguments, **environment)
            self.assertEqual(done.returncode, 1, arguments)
            self.assertIn(expected, done.stderr)
            self.assertTrue(done.stderr.startswith("chronik: "), done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)


class Flags(SynchronousTestCase):
    def parse(self, *arguments: str, **environment: str) -> Options:
        options = Options()
        options.environment = environment
        options.parseOptions(list(arguments))
        return options

    def test_flags_set_and_environment(self) -> None:
        config = self.parse(
            "--listen=tcp:0:interface=127.0.0.1",
            "--set",
            "log.retention.ms=5",
            "--set=num_partitions=3",
            CHRONIK_NODE_ID="4",
        ).config
        self.assertEqual((config.listeners[0].port, config.num_partitions, config.node_id), (0, 3, 4))
        self.assertEqual(config.topic_defaults, {"log.retention.ms": "5"})
        self.assertEqual(config.source("listeners"), "flag --listen")

    def test_a_faulty_value_exits_with_its_line(self) -> None:
        refused = self.assertRaises(SystemExit, self.parse, "--node-id=one")
        self.assertIn("flag --node-id: node_id: 'one' is not a whole number", str(refused.code))

    def test_every_declared_flag_is_there(self) -> None:
        there = {str(parameter[0]) for parameter in Options.optParameters}
        self.assertEqual(there - {"config"}, {option.flag for option in OPTIONS.values() if option.flag})


class Plugin(SynchronousTestCase):
    def test_no_package_shadows_twisted(self) -> None:
        self.assertEqual([str(path) for path in (ROOT / "twisted").rglob("__init__.py")], [])

    def test_plugin_and_command_line_install_no_reactor(self) -> None:
        code = (
            "import sys, twisted.plugins.chronik_plugin, chronik.tap;"
            "chronik.tap.Options().parseOptions([]);"
            "sys.exit('twisted.internet.reactor' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))


class FatalFailures(SynchronousTestCase):
    def fatal(self, error: Exception, pid_file: str | None = None) -> str:
        statuses: list[int] = []
        self.patch(sys, "__stderr__", io.StringIO())
        exit_on(pid_file, statuses.append)(Failure(error))
        self.assertEqual(statuses, [1])
        return sys.__stderr__.getvalue()  # type: ignore[union-attr]

    def test_a_named_fault_is_one_line(self) -> None:
        self.assertEqual(self.fatal(DataDirectoryError("held by 7")), "chronik: held by 7\n")

    def test_a_defect_is_logged_whole(self) -> None:
        self.assertIn("unexpected failure, see its log: 'x'", self.fatal(KeyError("x")))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_the_pid_file_goes(self) -> None:
        path = self.mktemp()
        Path(path).write_text("1")
        self.fatal(DataDirectoryError("x"), path)
        self.assertFalse(os.path.exists(path))


_OTHERS = ("--admin-listen=127.0.0.1:0", "--search-listen=none")


class StartupFailures(SynchronousTestCase):
    """What keeps a node from starting is one clear line on stderr, and status 1."""

    def start(self, *arguments: str) -> str:
        done = twistd("-n", "--pidfile=", "chronik", "--listen=127.0.0.1:0", *_OTHERS, *arguments)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertTrue(done.stderr.startswith("chronik: "), done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertNotIn("Traceback", done.stdout)
        return done.stderr

    def test_a_port_in_use(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            line = self.start("--data-dir", self.mktemp(), f"--listen=127.0.0.1:{port}")
        self.assertIn(f"cannot listen at PLAINTEXT://127.0.0.1:{port}", line)

    def test_a_data_directory_that_another_node_holds(self) -> None:
        path = self.mktemp()
        os.makedirs(path)
        release = hold(path)
        self.addCleanup(release)
        self.assertIn(f"is held by process {os.getpid()}", self.start("--data-dir", path))

    def test_a_newer_format(self) -> None:
        path = self.mktemp()
        os.makedirs(path)
        Path(path, "format").write_text('{"format_version": 99}')
        self.assertIn("has format 99, written by a newer release", self.start("--data-dir", path))

    def test_a_directory_that_cannot_be_made(self) -> None:
        path = self.mktemp()
        Path(path).write_text("")
        self.assertIn("cannot be used", self.start("--data-dir", path))
