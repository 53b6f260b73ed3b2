"""Values that carry their own CRC-32C, for the key-value stores: none of them notices every flipped bit by itself.

A stored value is four bytes, the big-endian CRC-32C of key and value, and then the value. The key is covered too, so that a
value which turns up under another key doesn't verify.
"""

from __future__ import annotations

import struct

from crc32c import crc32c

from chronik.errors import CorruptLogError

_CRC = struct.Struct(">I")


def seal(key: bytes, value: bytes) -> bytes:
    """What to store for `value` under `key`."""
    return _CRC.pack(crc32c(value, crc32c(key))) + value


def unseal(key: bytes, stored: bytes, where: str) -> bytes:
    """The value that was sealed. Raises CorruptLogError, naming the key and `where` it is stored."""
    if len(stored) < 4 or _CRC.unpack_from(stored)[0] != crc32c(stored[4:], crc32c(key)):
        raise CorruptLogError(
            f"the value of key {key.hex()} in {where} does not match its checksum; "
            "restore the directory from a backup, or rejoin the cluster with an empty one"
        )
    return stored[4:]
