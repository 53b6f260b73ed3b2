"""The manifest of a split: what is in it, of what log, and what its files must be.

`split.json` in the split's directory: eight hexadecimal digits, the CRC-32C of what follows; a line's end; JSON. It is written
last, before the directory gets the name of a split, `<first>-<following>.split`.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from crc32c import crc32c

from chronik.errors import CorruptLogError
from chronik.interfaces import IDisk
from chronik.search.signatures import UNICODE

SPLIT_SUFFIX = ".split"
UNFINISHED_SUFFIX = ".unfinished"
MANIFEST = "split.json"
VERSION = 1
CHUNK_BYTES = 1 << 20
"""What is read of a file at once to verify it."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A split of the offsets `first` to `following`, not included. `records` are in it, with so many `words` in their values.

    `exact`: compaction had taken nothing of the range, so what it counts is what there is. The last batch of the range was at
    `last_offset`, with this CRC and leader epoch; -1 where there was none. `files`: size and CRC-32C by name.
    """

    version: int = VERSION
    unicode: int = UNICODE
    first: int
    following: int
    records: int
    words: int
    exact: bool
    last_offset: int
    last_crc: int
    last_epoch: int
    files: dict[str, tuple[int, int]]

    @property
    def bytes(self) -> int:
        """What its files have."""
        return sum(size for size, _ in self.files.values())


def name_of(first: int, following: int) -> str:
    """The name of a split's directory."""
    return f"{first:020d}-{following:020d}{SPLIT_SUFFIX}"


def written(manifest: Manifest) -> bytes:
    """The manifest as it is on disk."""
    content = msgspec.json.encode(manifest)
    return b"%08x\n%s" % (crc32c(content), content)


def read_manifest(disk: IDisk, path: str) -> Manifest:
    """The manifest of the split in the directory at `path`. Raises CorruptLogError for one that is none, OSError."""
    data = disk.read(f"{path}/{MANIFEST}")
    crc, _, content = data.partition(b"\n")
    if crc != b"%08x" % crc32c(content):
        raise damaged(path, "its manifest has another CRC than it says")
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.MsgspecError as fault:
        raise damaged(path, f"its manifest cannot be read: {fault}") from None
    if (manifest.version, manifest.unicode) != (VERSION, UNICODE):
        raise damaged(path, f"it is none of format {VERSION} and Unicode {UNICODE}")
    if path.rpartition("/")[2] != name_of(manifest.first, manifest.following):
        raise damaged(path, f"its manifest is that of offsets {manifest.first} to {manifest.following}")
    return manifest


def verifying(disk: IDisk, path: str, manifest: Manifest) -> Iterator[None]:
    """Verify all files of the split, in steps. Raises CorruptLogError, OSError."""
    for name, (size, crc) in manifest.files.items():
        found, have = 0, 0
        file = disk.open(f"{path}/{name}")
        try:
            while chunk := file.pread(CHUNK_BYTES, have):
                found, have = crc32c(chunk, found), have + len(chunk)
                yield
        finally:
            file.close()
        if have != size or found != crc:
            raise damaged(path, f"{name} is not the file that was written")


def described(disk: IDisk, path: str) -> Iterator[tuple[str, int, int]]:
    """Name, size and CRC of all files in a directory."""
    for name in disk.list(path):
        size = crc = 0
        file = disk.open(f"{path}/{name}")
        while chunk := file.pread(CHUNK_BYTES, size):
            crc, size = crc32c(chunk, crc), size + len(chunk)
        file.close()
        yield name, size, crc


def damaged(path: str, why: str) -> CorruptLogError:
    """What is said of a split that isn't whole."""
    return CorruptLogError(f"{path} is damaged: {why}")
