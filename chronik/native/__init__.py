"""Work on all bytes of all records, into columns and signatures: in C where it was compiled, else in numpy, to the same bit.

Light to import: it only looks which code there is. What does the work, `chronik.native.scanner`, loads numpy and cffi; it is
for worker processes.
"""

from __future__ import annotations

from typing import Literal

from chronik.native.library import find

_found = find()

IMPLEMENTATION: Literal["C", "numpy"] = "C" if _found.path else "numpy"
DESCRIPTION = f"{IMPLEMENTATION} ({_found.text})"
"""For the log: with the compiler, or with the reason."""
