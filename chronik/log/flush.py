"""One flush of a log: what has to reach the disk, in which order, carried out on another thread.

The log lists its work on the reactor, `run` does it elsewhere touching nothing but files, and the log hears of the
end on the reactor again. The order is what makes a crash between any two steps harmless: first the batches, then the
names of new files (and of the directory, when it is new itself), then what is derived from them (indexes, producer
snapshots, leader epochs), and last the checkpoint that says that all this is there.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from enum import Enum
from threading import Lock

from chronik.errors import StorageError
from chronik.interfaces import IDisk
from chronik.log.checkpoint import CHECKPOINT_FILE, Checkpoint
from chronik.log.segment import Segment


class FlushState(Enum):
    """How far a flush got."""

    WAITING = "waiting"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Flush:
    """The work of one flush. It makes durable what the log held below `end_offset` when it was made."""

    __slots__ = (
        "_disk",
        "_lock",
        "byte_count",
        "checkpoint",
        "directory",
        "directory_changed",
        "end_offset",
        "error",
        "parent_changed",
        "replacements",
        "segments",
        "state",
    )

    def __init__(
        self,
        disk: IDisk,
        directory: str,
        *,
        segments: Sequence[Segment],
        directory_changed: bool,
        parent_changed: bool,
        replacements: dict[str, bytes],
        checkpoint: Checkpoint | None,
        end_offset: int,
        byte_count: int,
    ) -> None:
        self._disk = disk
        self._lock = Lock()
        self.directory = directory
        self.segments = segments
        self.directory_changed = directory_changed
        self.parent_changed = parent_changed
        self.replacements = replacements
        self.checkpoint = checkpoint
        self.end_offset = end_offset
        self.byte_count = byte_count
        self.state = FlushState.WAITING
        self.error: OSError | None = None
        """Why a derived file or the checkpoint could not be written (a full disk): no loss, it is tried again."""

    def run(self) -> None:
        """Do it, unless it was cancelled. Raises StorageError when a sync fails: then the process must stop."""
        with self._lock:
            if self.state is not FlushState.WAITING:
                return
            self.state = FlushState.FAILED
            self._carry_out()
            self.state = FlushState.DONE

    def settle(self) -> FlushState:
        """Wait for the end where it has begun, or see to it that it never begins. Raises StorageError if it failed."""
        with self._lock:
            if self.state is FlushState.WAITING:
                self.state = FlushState.CANCELLED
            if self.state is FlushState.FAILED:
                raise StorageError(f"a sync of {self.directory} has failed before; the node must stop")
            return self.state

    def _carry_out(self) -> None:
        for segment in self.segments:
            segment.file.datasync()
        if self.directory_changed:
            self._disk.sync_directory(self.directory)
        if self.parent_changed:
            self._disk.sync_directory(posixpath.dirname(self.directory))
        try:
            for path, content in self.replacements.items():
                self._disk.replace(path, content, durable=False)
            if self.checkpoint is not None:
                if self.replacements:
                    self._disk.sync_directory(self.directory)
                self._disk.replace(f"{self.directory}/{CHECKPOINT_FILE}", self.checkpoint.encode())
        except OSError as error:
            self.error = error
