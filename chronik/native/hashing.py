"""Which bits of a signature a token sets. This is part of the format: a change here makes every signature on disk void.

The hash takes the token's bytes in little-endian words of 8, the last filled up with zeros, each XORed in, multiplied and
folded, then the length, multiplied and folded once more; all modulo 2**64::

    h = FIRST
    for each word w:  h = (h ^ w) * FIRST;  h = h ^ h >> 32
    h = (h ^ length) * SECOND;              h = h ^ h >> 32

A signature has a power of two of bits. Token by token it sets `HASHES` of them: the low half of the hash, and on from there by
steps of the high half, made odd so that they differ (double hashing; Kirsch and Mitzenmacher, 2006). Bit i is bit i % 8,
counted from the lowest, of byte i // 8.

Positions are taken modulo the size, so a signature is made smaller by halves: `fold`. `HASHES` was measured, see
docs/adr/0007-native-code.md.
"""

from __future__ import annotations

import math

from chronik.native.tokens import Buffer

HASHES = 8
MOST_HASHES = 64
SMALLEST, LARGEST = 1 << 6, 1 << 28
"""Bits that a signature may have."""

FIRST = 0x9E3779B97F4A7C15
SECOND = 0xBF58476D1CE4E5B9
_WORD = (1 << 64) - 1


def hash_token(token: bytes) -> int:
    """The 64-bit hash of a token, as defined above."""
    h = FIRST
    for start in range(0, len(token), 8):
        h = (h ^ int.from_bytes(token[start : start + 8], "little")) * FIRST & _WORD
        h ^= h >> 32
    h = (h ^ len(token)) * SECOND & _WORD
    return h ^ h >> 32


def positions(token: bytes, bits: int, hashes: int = HASHES) -> list[int]:
    """The bits that a token sets in a signature of `bits` bits. Raises ValueError unless that is a size for one."""
    check_bits(bits)
    h = hash_token(token)
    step = h >> 32 | 1
    return [(h + n * step) % bits for n in range(hashes)]


def holds(signature: Buffer, token: bytes, hashes: int = HASHES) -> bool:
    """Whether a signature may hold a token: False is certain, True is not."""
    return all(signature[at >> 3] >> (at & 7) & 1 for at in positions(token, len(signature) * 8, hashes))


def fold(signature: Buffer, bits: int) -> bytes:
    """The signature of `bits` bits that the same tokens make. Raises ValueError if it isn't as large or smaller."""
    size = check_bits(len(signature) * 8)
    if check_bits(bits) > size:
        raise ValueError(f"a signature of {size} bits cannot become one of {bits}")
    content = int.from_bytes(signature, "little")
    while size > bits:
        size >>= 1
        content = content & (1 << size) - 1 | content >> size
    return content.to_bytes(bits >> 3, "little")


def distinct_tokens(signature: Buffer, hashes: int = HASHES) -> int:
    """About how many different tokens a signature holds, by the share of its bits that are set (linear counting).

    Within one percent where at most half are set. A full one says as much as it can tell.
    """
    bits = check_bits(len(signature) * 8)
    clear = bits - int.from_bytes(signature, "little").bit_count()
    return round(bits / hashes * math.log(bits / max(clear, 1)))


def check_hashes(hashes: int) -> None:
    """Raise ValueError for a number of bits a token that no signature has."""
    if not 1 <= hashes <= MOST_HASHES:
        raise ValueError(f"{hashes} bits a token: it sets 1 to {MOST_HASHES}")


def check_bits(bits: int) -> int:
    """`bits`, if a signature can have so many. Raises ValueError."""
    if not SMALLEST <= bits <= LARGEST or bits & bits - 1:
        raise ValueError(f"a signature of {bits} bits: it has a power of two from {SMALLEST} to {LARGEST}")
    return bits
