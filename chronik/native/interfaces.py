"""The seam between what search asks for and who does it: C where it was compiled, else numpy."""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import Interface

from chronik.native.sections import Columns, Section


class IRecordScanner(Interface):
    """Goes through whole records sections. All providers give the same, to the bit; none keeps anything between calls."""

    def columns(section: Section, last_offset_delta: int) -> Columns:
        """The records of a section, field by field. Every record has an offset from 0 to `last_offset_delta`.

        Raises MalformedRecords at the first fault; ValueError for a section of 2 GiB or more.
        """

    def sign(sections: Sequence[Section], signature: bytearray | memoryview, hashes: int) -> None:
        """Set the bits of all tokens of all records, as `chronik.native.signed` and `hashing` define them.

        Raises MalformedRecords, with the section's index, at the first fault: then some tokens are in the signature and some
        are not. ValueError for a section of 2 GiB or more, for a signature of a size that none has, and for
        `hashes` outside of 1 to 64.
        """
