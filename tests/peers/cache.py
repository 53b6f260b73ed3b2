"""Where installed peers live between runs, and how one of them is installed exactly once.

The directory is `$CHRONIK_PEERS`, or `~/.cache/chronik-peers`. An installation lands in a directory named by a fingerprint of
what was asked for, under a lock, and counts only once its `.complete` file stands: a changed pom.xml or package.json
installs anew, a broken install is repeated, and two test runs at once do it once.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path


class PeerMissing(Exception):
    """A peer is not on this machine and cannot be put there. The text says what is missing and how to install it."""


def directory() -> Path:
    """The root of all installed peers."""
    chosen = os.environ.get("CHRONIK_PEERS")
    return Path(chosen) if chosen else Path.home() / ".cache" / "chronik-peers"


def installed(name: str, recipe: bytes, install: Callable[[Path], None]) -> Path:
    """The directory of the peer `name` made by `install(directory)`, which runs only where `recipe` is not yet installed."""
    root = directory()
    root.mkdir(parents=True, exist_ok=True)
    home = root / f"{name}-{hashlib.sha256(recipe).hexdigest()[:12]}"
    if (home / ".complete").exists():
        return home
    with open(root / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (home / ".complete").exists():
            return home
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        install(home)
        (home / ".complete").touch()
    return home


def program(name: str, package: str) -> str:
    """The path of the program `name`; raises PeerMissing naming the Debian `package` that has it."""
    found = shutil.which(name)
    if found is None:
        raise PeerMissing(f"{name} is not on the PATH: install Debian's {package} (tests/peers/install does)")
    return found
