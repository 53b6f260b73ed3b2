"""The directories of partitions: what they are called, how they are given up, and which of them belong to nobody.

A deletion renames to `.deleted` before all else, which frees the name and makes it durable; what has this suffix is removed.
A directory without it and without a topic most likely means that the metadata is older than the data, restored or lost; it is
renamed to `.stray` and kept until the operator says otherwise.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable

from twisted.logger import Logger

from chronik.interfaces import IClusterMetadata, IDisk
from chronik.model import PartitionId, uuid_from_text

DELETED_SUFFIX = ".deleted"
STRAY_SUFFIX = ".stray"


class PartitionDirectories:
    """The partitions' directories under `path`. `discard(path, delay_ms)` removes what was renamed."""

    log = Logger()

    def __init__(self, disk: IDisk, path: str, discard: Callable[[str, int], None]) -> None:
        self._disk = disk
        self.path = path
        self._discard = discard

    def of(self, partition_id: PartitionId) -> str:
        """The path of a partition's directory."""
        return posixpath.join(self.path, str(partition_id))

    def prepare(self, metadata: IClusterMetadata) -> None:
        """At a start: go on removing what was deleted, and set aside what `metadata` doesn't know."""
        self._disk.make_directory(self.path)
        strays = 0
        for name in self._disk.list(self.path):
            path = posixpath.join(self.path, name)
            if name.endswith(DELETED_SUFFIX):
                self._discard(path, 0)
                continue
            text, _, index = name.rpartition("-")
            try:
                topic, number = metadata.topic_by_id(uuid_from_text(text)), int(index)
            except ValueError:
                continue  # not ours to touch
            if topic is None or number >= len(topic.partitions):
                self._set_aside(path)
                strays += 1
        if strays:
            self.log.error(
                "{count} partition directories in {path} belong to no topic of the metadata: they were renamed to *{suffix} "
                "and are kept. Is meta/ older than the data, or lost? Then stop the node, restore meta/, take the suffix off "
                "the names and start again. If the topics were deleted, remove the directories",
                count=strays,
                path=self.path,
                suffix=STRAY_SUFFIX,
            )

    def _set_aside(self, path: str) -> None:
        aside, number = path + STRAY_SUFFIX, 1
        while self._disk.exists(aside):
            number += 1
            aside = f"{path}{STRAY_SUFFIX}{number}"
        self._disk.rename(path, aside)
        self.log.error("{path} belongs to no topic: kept as {aside}", path=path, aside=posixpath.basename(aside))

    def give_up(self, partition_id: PartitionId, delay_ms: int) -> bool:
        """Rename the directory of a deleted partition, if it has one, and remove it in `delay_ms`; whether there was any."""
        path = self.of(partition_id)
        try:
            if not self._disk.exists(path):
                return False
            self._disk.rename(path, path + DELETED_SUFFIX)
        except OSError as error:  # it is deleted all the same; the next start finds the directory astray
            self.log.error("{path} of a deleted topic stays: {error}", path=path, error=error)
            return False
        self._discard(path + DELETED_SUFFIX, delay_ms)
        return True

    def sync(self) -> None:
        """Make the names durable. Blocks. Raises StorageError."""
        self._disk.sync_directory(self.path)

    def volume(self) -> tuple[int, int]:
        """Bytes of the volume that holds them: (all, free)."""
        return self._disk.volume(self.path)
