"""The seams between what search and SQL ask for and who does it: C where it was compiled, else numpy and Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zope.interface import Interface

from chronik.native.sections import Columns, Section
from chronik.native.tokens import Buffer
from chronik.native.values import Gathered, HeaderPlaces, Members

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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


class IValueScanner(Interface):
    """Makes columns of values. Places are in `content`; all providers give the same, to the bit.

    Raises ValueError for a place that isn't within the content, and for 2 GiB or more.
    """

    def members(
        content: Buffer, starts: NDArray[np.int32], lengths: NDArray[np.int32], names: Sequence[bytes]
    ) -> Members:
        """Each value read as JSON, and the members of these names where it is an object: see `chronik.native.values`.

        A length of -1 is a value that isn't there. Names are distinct, of at most `LONGEST_NAME` bytes.
        """

    def gather(
        content: Buffer,
        starts: NDArray[np.int32],
        lengths: NDArray[np.int32],
        kinds: NDArray[np.uint8] | None = None,
        as_text: bool = False,
    ) -> Gathered:
        """Copies of what is at these places. Where `kinds` says ESCAPED, JSON's escapes are resolved.

        A place of length -1 is not valid, and with `as_text` one whose bytes are no UTF-8 isn't either.
        """

    def header_places(content: Buffer, starts: NDArray[np.int32], counts: NDArray[np.int32]) -> HeaderPlaces:
        """Where the names and values of headers are, of rows with `counts` headers each, as `Columns` tells of them.

        Raises MalformedRecords, without a place, where there are none.
        """
