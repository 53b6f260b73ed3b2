"""librdkafka's own test programs, built out of Debian's source package.

apt gets the source with lists, a cache and a `deb-src` line of its own (the machine's own sources, asked for sources), so
nothing about the machine's apt changes and no rights are needed.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.peers import cache, kafka_scripts

VERSION = "2.0.2"
"""That of Debian 12; the outcomes that tests/compat/librdkafka_suite.py names are those of its tests."""

_CONFIGURE = ("--disable-gssapi", "--disable-lz4-ext")

_ADAPTED = (
    # Topics of three replicas get one: there is one broker.
    (
        "test.c",
        "partition_cnt, replication_factor,\n",
        "partition_cnt, replication_factor > 0 ? 1 : replication_factor,\n",
    ),
    # Kafka 4 refuses segments below 1 MiB.
    ("0129-fetch_aborted_msgs.c", '"segment.bytes", "20000"', '"segment.bytes", "1048576"'),
    # The controller of Kafka 4 leaves alone what it has 0 ms for.
    ("0081-admin.c", r' +do_test_(?:Create|Delete)(?:Topics|Partitions)\(\s*"\w+ queue, op timeout 0"[^;]*;\n', ""),
    # Closing a consumer whose topic is gone waits for ever, on any broker: the rest of the test is to run.
    ("0113-cooperative_rebalance.cpp", r" +[hij]_delete_topic\w*\(\);\n", ""),
    # Kafka 4 refuses what a client of Kafka 0.9 sends: its half of the test goes.
    ("0052-msg_timestamps.c", r'        test_timestamps\("\w+", "0\.9\.0\.0", [^;]*;\n', ""),
)
"""(file, pattern, replacement): what makes tests of 2023 run on one broker of today. The same on Kafka and on Chronik."""


_PROGRAMS = {"apt-get": "apt", "dpkg-source": "dpkg-dev", "make": "make", "g++": "g++", "javac": "default-jdk-headless"}


def source() -> Path:
    """The root of the built source tree; the test program is `tests/test-runner`, to be run in `tests`."""

    def install(home: Path) -> None:
        _unpack(home)
        (root,) = home.glob("librdkafka-*/")
        if root.name != f"librdkafka-{VERSION}":
            raise cache.PeerMissing(
                f"Debian's source package is {root.name}: the tests known here are those of {VERSION}"
            )
        for name, pattern, replacement in _ADAPTED:
            path = root / "tests" / name
            text, count = re.subn(pattern, replacement, path.read_text())
            if not count:
                raise cache.PeerMissing(f"{name} of librdkafka {VERSION} has nothing like {pattern!r} to adapt")
            path.write_text(text)
        _run(["./configure", *_CONFIGURE], root)
        _run(["make", "-j2", "libs"], root)
        _run(["make", "-j2", "-C", "tests", "test-runner"], root)
        _run(["make", "-C", "tests/java", f"KAFKA_JARS={kafka_scripts.distribution() / 'libs'}"], root)
        root.rename(home / "source")

    for name, package in _PROGRAMS.items():
        cache.program(name, package)
    return cache.installed("librdkafka", f"{VERSION} {_CONFIGURE} {_ADAPTED}".encode(), install) / "source"


def _unpack(home: Path) -> None:
    for part in ("sources", "lists/partial", "cache/archives/partial"):
        (home / "apt" / part).mkdir(parents=True)
    for path in (Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")):
        if path.suffix in (".list", ".sources") and path.is_file():
            text = re.sub(r"^(deb\s|Types:.*)", _of_sources, path.read_text(), flags=re.MULTILINE)
            (home / "apt" / "sources" / path.name).write_text(text)
    options = {
        "Dir::Etc::SourceList": "/dev/null",
        "Dir::Etc::SourceParts": home / "apt" / "sources",
        "Dir::State::Lists": home / "apt" / "lists",
        "Dir::Cache": home / "apt" / "cache",
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-q", *(f"-o{name}={value}" for name, value in options.items())]
    _run([*apt, "update"], home)
    _run([*apt, "source", "librdkafka"], home)


def _of_sources(line: re.Match[str]) -> str:
    return "Types: deb-src" if line[1].startswith("Types:") else "deb-src "


def _run(line: Sequence[str], directory: Path) -> None:
    done = subprocess.run(line, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        raise cache.PeerMissing(
            f"librdkafka's tests could not be built: {' '.join(line)} ended with {done.returncode}"
            f" (tests/peers/install installs what it needs):\n{done.stdout[-1500:]}{done.stderr[-1500:]}"
        )
