"""Values into columns: the front door, over whichever implementation there is. For worker processes, as `scanner` is."""

from __future__ import annotations

from chronik.native.interfaces import IValueScanner
from chronik.native.library import find


def make_value_scanner() -> IValueScanner:
    """The compiled scanner if there is one, else the one in Python."""
    path = find().path
    if path is None:
        from chronik.native.value_twin import PlainValueScanner

        return PlainValueScanner()
    from chronik.native.compiled_values import CompiledValueScanner

    return CompiledValueScanner(path)
