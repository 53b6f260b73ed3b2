"""Compiles the C of this package into a library beside it: `python -m chronik.native.build`.

The compiler is the first that works of: the one that `CC` names, cc, gcc, clang, and the one in PyPI's package `ziglang`, if
that is installed. The library knows the SHA-256 of the sources that it was made of, so an old one is not taken for a new one.

Nothing but the standard library is needed: the build backend (`packaging/chronik_backend.py`) runs this before anything is
installed.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from chronik.native.library import find
from chronik.native.sources import HERE, LIBRARY, OPTIONS, SOURCES, digest

_SECONDS = 300.0
"""For one compiler; zig compiles parts of itself first."""


class BuildError(Exception):
    """No compiler made a library of the sources. The text says what each said."""


def compilers() -> list[list[str]]:
    """The commands that may be C compilers here, the preferred first."""
    named = [shlex.split(os.environ["CC"])] if os.environ.get("CC") else []
    found = [[path] for name in ("cc", "gcc", "clang") if (path := shutil.which(name))]
    zig = [[sys.executable, "-m", "ziglang", "cc"]] if importlib.util.find_spec("ziglang") else []
    return named + found + zig


def build(target: Path = HERE / LIBRARY) -> list[str]:
    """Compile the library, and put it at `target` when it is whole. Returns the compiler's command. Raises BuildError."""
    said = []
    for compiler in compilers():
        fault = _compile(compiler, target)
        if fault is None:
            return compiler
        said.append(f"{shlex.join(compiler)}: {fault}")
    raise BuildError("\n".join(said) or "no C compiler was found: neither CC, cc, gcc, clang nor the package ziglang")


def _compile(compiler: list[str], target: Path) -> str | None:
    """Try one compiler; what went wrong, or None."""
    with tempfile.TemporaryDirectory(prefix="chronik-native-") as scratch:
        made = Path(scratch) / LIBRARY
        command = [*compiler, *OPTIONS, f'-DCHRONIK_SOURCES="{digest()}"', "-o", str(made)]
        environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": scratch, "ZIG_LOCAL_CACHE_DIR": scratch}
        try:
            done = subprocess.run(
                [*command, *(str(HERE / name) for name in SOURCES)],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, errors="replace", env=environment, timeout=_SECONDS, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as problem:
            return str(problem)
        if done.returncode or not made.exists():
            return f"exit status {done.returncode}: {done.stdout.strip()}"
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copy(made, beside)
        os.replace(beside, target)
    return None


def main() -> int:
    """Compile in place, unless that was done of these sources already; say what was done."""
    found = find()
    if found.path is not None:
        print(f"chronik.native is compiled already: {found.path}, by {found.text}")
        return 0
    try:
        compiler = build()
    except BuildError as problem:
        print(f"chronik.native was not compiled.\n{problem}", file=sys.stderr)
        return 1
    print(f"chronik.native was compiled by {shlex.join(compiler)}: {HERE / LIBRARY}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
