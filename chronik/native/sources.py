"""The C sources of this package, how they are compiled, and the name of the library that is made of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

HERE = Path(__file__).parent
LIBRARY = "chronik_native.so"
SOURCES = ("about.c", "records.c", "sign.c", "tokens.c", "values.c")
HEADERS = ("api.h", "native.h", "records.h", "signer.h")
OPTIONS = ("-std=c11", "-O3", "-fPIC", "-shared", "-Wall", "-Wextra")


def digest(directory: Path = HERE) -> str:
    """The SHA-256 of the options and of the sources in a directory, in hexadecimal. OSError where one is missing."""
    found = hashlib.sha256(" ".join(OPTIONS).encode())
    for name in sorted(SOURCES + HEADERS):
        content = (directory / name).read_bytes()
        found.update(b"%s %d\n" % (name.encode(), len(content)))
        found.update(content)
    return found.hexdigest()
