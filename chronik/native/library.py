"""Finds the compiled library, if there is one that was made of these very sources.

Looked at with ctypes, so that the node can say at its start which code its workers will run without loading what they load.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import NamedTuple

from chronik.native.sources import HERE, LIBRARY, digest

HOW = "`python -m chronik.native.build` compiles it"


class Found(NamedTuple):
    """The library to load, None for no such; what it was compiled by, or why there is none, for the log."""

    path: Path | None
    text: str


def find(path: Path = HERE / LIBRARY) -> Found:
    """Look for a library that fits."""
    if not path.exists():
        return Found(None, f"the C code was not compiled here; {HOW}")
    try:
        library = ctypes.CDLL(str(path))
        sources, compiler = library.chronik_sources, library.chronik_compiler
        sources.restype = compiler.restype = ctypes.c_char_p
        made_of, made_by, wanted = sources().decode(), compiler().decode().strip(), digest()
    except (OSError, AttributeError) as problem:
        return Found(None, f"the compiled library cannot be loaded: {problem}; {HOW}")
    if made_of != wanted:
        return Found(None, f"the compiled library is of other sources than these; {HOW}")
    return Found(path, made_by)
