"""Records into columns and signatures: the front door, over whichever implementation there is.

    columns(Section(records, count))      one row a record, as numpy arrays
    sign(sections, signature)             adds every token of every record to a bit set

One call of `sign` is for a whole block, a few hundred kilobytes: it costs some microseconds beside its work. It may be called
again with the same signature, which then holds the tokens of both.

For worker processes: the numpy implementation holds the interpreter for as long as it works.
"""

from __future__ import annotations

from collections.abc import Sequence

from chronik.native.hashing import HASHES, distinct_tokens
from chronik.native.interfaces import IRecordScanner
from chronik.native.library import find
from chronik.native.sections import Columns, Section

ANY_OFFSET = 2**31 - 1


def make_scanner() -> IRecordScanner:
    """The compiled scanner if there is one, else the one in numpy."""
    path = find().path
    if path is None:
        from chronik.native.twin import NumpyScanner

        return NumpyScanner()
    from chronik.native.compiled import CompiledScanner

    return CompiledScanner(path)


_scanner = make_scanner()


def columns(section: Section, last_offset_delta: int = ANY_OFFSET) -> Columns:
    """The records of a section, field by field. `last_offset_delta` is the batch header's: no record's offset is beyond it.

    Raises MalformedRecords at the first fault; ValueError for a section of 2 GiB or more.
    """
    return _scanner.columns(section, last_offset_delta)


def sign(sections: Sequence[Section], signature: bytearray | memoryview, hashes: int = HASHES) -> int:
    """Add all tokens of all records to a signature, in place; about how many different tokens it holds now.

    The signature has a power of two of bits (`hashing`) and is clear to begin with. Raises MalformedRecords at the first fault,
    when it may hold a part of the tokens; ValueError for a section of 2 GiB or more, and for a signature that can't be one, or
    no number of hashes.
    """
    _scanner.sign(sections, signature, hashes)
    return distinct_tokens(signature, hashes)
