"""kafka-python's own integration tests, out of its source distribution: pip downloads it, nothing is built or installed."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

from tests.peers import cache

VERSION = "3.0.12"

_SERVICE = '''"""What the source distribution leaves out: a broker that runs elsewhere is neither started nor stopped."""


class ExternalService:
    def __init__(self, host, port):
        self.host, self.port = host, port

    def open(self):
        pass

    close = stop = start = open


class SpawnedService:
    def __init__(self, *arguments):
        raise NotImplementedError("tests against a broker of their own are not run")
'''


def source() -> Path:
    """The root of the unpacked source distribution; its tests lie in `test/integration`."""

    def install(home: Path) -> None:
        # Its metadata is prepared in a place of its own: the setuptools of a fresh venv may be too old for it.
        options = ("--no-binary", "kafka-python", "--no-deps", "-q", "-d", str(home))
        line = [sys.executable, "-m", "pip", "download", *options, f"kafka-python=={VERSION}"]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        if done.returncode:
            raise cache.PeerMissing(f"pip could not download kafka-python's source:\n{done.stderr[-2000:]}")
        (archive,) = home.glob("*.tar.gz")
        with tarfile.open(archive) as bundle:
            bundle.extractall(home, filter="data")
        tests = home / f"kafka_python-{VERSION}" / "test"
        (tests / "__init__.py").touch()  # else the standard library's own package named "test" is found first
        (tests / "service.py").write_text(_SERVICE)

    return cache.installed("kafka-python", f"{VERSION} {_SERVICE}".encode(), install) / f"kafka_python-{VERSION}"
