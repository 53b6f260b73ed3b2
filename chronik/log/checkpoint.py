"""The small files of a partition that are replaced as a whole: sealed text, and the checkpoint of what is on disk.

A sealed text is a few lines for people to read, and a last one with the CRC-32C of those before it::

    checkpoint 1
    log-start 1200
    ...
    crc32c 5d10a2f3

The checkpoint says what may be trusted after a crash: all offsets below the recovery point are synced, with all that
is derived from them (indexes of sealed segments, leader epochs, a producer snapshot at every segment's base). It is
written after those. The cleaner's says how far compaction has come.
"""

from __future__ import annotations

from typing import NamedTuple

from crc32c import crc32c

from chronik.errors import CorruptLogError

CHECKPOINT_FILE = "checkpoint"
_KIND = "checkpoint 1"
CLEANER_FILE = "cleaner"
_CLEANER_KIND = "cleaner 1"
_UNKNOWN_SIZE = -1


def seal(kind: str, lines: list[str]) -> bytes:
    """The bytes of a sealed text whose first line is `kind`, a name and a version."""
    body = "".join(f"{line}\n" for line in (kind, *lines)).encode()
    return body + f"crc32c {crc32c(body):08x}\n".encode()


def unseal(kind: str, content: bytes, path: str) -> list[str]:
    """The lines of a sealed text after its first. Raises CorruptLogError naming `path` when it isn't whole, or another kind."""
    cut = content.rfind(b"\n", 0, len(content) - 1) + 1
    body, last = content[:cut], content[cut:]
    if last != f"crc32c {crc32c(body):08x}\n".encode():
        raise CorruptLogError(
            f"{path} does not match its checksum; restore it, or delete it to have the whole partition verified"
        )
    first, *lines = body.decode().splitlines() or [""]
    if first != kind:
        raise CorruptLogError(f"{path} is a {first!r}, this release reads {kind!r}; use the release that wrote it")
    return lines


class Checkpoint(NamedTuple):
    """What was on disk when it was written.

    `active_size` is the size in bytes of the segment at `active_base` if the recovery point is its end, else -1.
    Where the file still has this size, nothing came after the checkpoint, and the rest describes the whole log.
    """

    log_start: int
    recovery_point: int
    active_base: int = 0
    active_size: int = _UNKNOWN_SIZE
    first_timestamp: int = -1
    max_timestamp: int = -1
    max_timestamp_offset: int = -1

    def encode(self) -> bytes:
        """The content of the file."""
        return seal(_KIND, [f"{name.replace('_', '-')} {value}" for name, value in self._asdict().items()])

    @classmethod
    def decode(cls, content: bytes, path: str) -> Checkpoint:
        """The checkpoint in `content`. Raises CorruptLogError."""
        fields = dict(line.split(" ", 1) for line in unseal(_KIND, content, path))
        return cls(**{name: int(fields[name.replace("_", "-")]) for name in cls._fields})


class CleanerCheckpoint(NamedTuple):
    """How far compaction has come: all below `first_dirty` is clean, and only below `gaps_below` may offsets be missing.

    `gaps_below` is written before anything is swapped in, `first_dirty` after it.
    """

    first_dirty: int = 0
    gaps_below: int = 0

    def encode(self) -> bytes:
        """The content of the file."""
        return seal(_CLEANER_KIND, [f"first-dirty {self.first_dirty}", f"gaps-below {self.gaps_below}"])

    @classmethod
    def decode(cls, content: bytes, path: str) -> CleanerCheckpoint:
        """The checkpoint in `content`. Raises CorruptLogError."""
        fields = dict(line.split(" ", 1) for line in unseal(_CLEANER_KIND, content, path))
        return cls(int(fields["first-dirty"]), int(fields["gaps-below"]))


NEVER_CLEANED = CleanerCheckpoint()
