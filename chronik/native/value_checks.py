"""Checks of places and names before the native code goes there: what isn't within the content is refused, never read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from chronik.native.sections import MAX_BYTES
from chronik.native.tokens import Buffer
from chronik.native.values import LONGEST_NAME


def check_places(content: Buffer, starts: NDArray[np.int32], lengths: NDArray[np.int32]) -> None:
    """Raise ValueError unless all places are within the content, which has less than 2 GiB. Lengths below 0 are no places."""
    if len(content) > MAX_BYTES or len(starts) != len(lengths):
        raise ValueError("too much content, or not as many starts as lengths")
    if not len(starts):
        return
    stops = starts.astype(np.int64) + np.maximum(lengths, 0)
    if int(starts.min()) < 0 or int(stops.max()) > len(content):
        raise ValueError("a place is outside of the content")


def room(lengths: NDArray[np.int32]) -> int:
    """Bytes of all places together. Raises ValueError for 2 GiB or more."""
    total = int(np.maximum(lengths, 0).sum(dtype=np.int64))
    if total > MAX_BYTES:
        raise ValueError(f"{total} bytes are to be gathered; the most is {MAX_BYTES}")
    return total


def check_names(names: Sequence[bytes]) -> None:
    """Raise ValueError for a name that is too long, or there twice."""
    if any(len(name) > LONGEST_NAME for name in names) or len(set(names)) != len(names):
        raise ValueError(f"names have at most {LONGEST_NAME} bytes, and each is there once")
