"""The splits of one partition: which there are, whether they are whole, and which one is to be made next.

A split comes from the disk at a start, or from the process that has made it. Before it is used its files are read and
verified, some in each step, and the log must have the very batch that it ends with (`chronik.search.splits.manifest`). What
isn't so is deleted and said, and its range is due again. Until then, and wherever there is no split, tier 1 answers.

**Counts** are taken only from splits of a log that is not compacted. A topic that has ever been compacted while a split was
there leaves it a proposer: its manifest is written anew. Once the topic isn't compacted any more, such splits are made anew.
Where the log's files change in a topic that isn't compacted, it was cut: its splits go, all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import msgspec

from chronik.errors import ChronikError, CorruptLogError, KafkaError
from chronik.interfaces import IDisk
from chronik.log.committed import CommittedFiles
from chronik.search.signatures import OpenGroup, WrittenGroup
from chronik.search.splits.manifest import (
    MANIFEST,
    SPLIT_SUFFIX,
    UNFINISHED_SUFFIX,
    Manifest,
    damaged,
    read_manifest,
    verifying,
    written,
)

if TYPE_CHECKING:  # heavy, and not needed where no topic has splits
    from chronik.search.splits.inverted import InvertedIndex

_Result = TypeVar("_Result")


class Elsewhere(Protocol):
    """Carries out what may take longer than a step, in steps."""

    def __call__(self, work: Callable[[], _Result]) -> Generator[None, None, _Result]: ...


def here(work: Callable[[], _Result]) -> Generator[None, None, _Result]:
    """Carry it out here and now, however long it takes."""
    return work()
    yield


MOST_BYTES = 512 << 20
"""Of the decoded records of one split; it is due then, however few they are."""
_NOWHERE = 1 << 63


class Split(NamedTuple):
    """A split that is whole. It may `count` if it says neither more nor less than the log."""

    path: str
    manifest: Manifest
    inverted: InvertedIndex
    may_count: bool


class Range(NamedTuple):
    """Offsets `first` to `following`, not included."""

    first: int
    following: int


class SplitState(NamedTuple):
    """What there is: splits, their records and bytes, and how many are not verified yet."""

    splits: int
    split_records: int
    split_bytes: int
    splits_unverified: int


class PartitionSplits:
    """The splits in `directory`, of the log that `files` reads. `tell` gets a line for the operator.

    `open_index` opens the index in a directory; `elsewhere` is where it is asked. `wanted_records`: the messages of a split, 0
    where the topic has none.
    """

    def __init__(
        self,
        disk: IDisk,
        directory: str,
        files: CommittedFiles,
        open_index: Callable[[str], InvertedIndex],
        tell: Callable[[str], object],
        elsewhere: Elsewhere = here,
    ) -> None:
        self.elsewhere = elsewhere
        self._disk = disk
        self._directory = directory
        self._files = files
        self._open_index = open_index
        self._tell = tell
        self.wanted_records = 0
        self.compacted = False
        self.ready: list[Split] = []
        """Those that are verified, in the order of their offsets. None overlap; there may be gaps."""
        self._unverified: list[str] = []
        self._verifying: Iterator[None] | None = None
        self._generation = 0
        self._loaded: bool | None = None
        """Whether those on disk are taken up, or (False) removed; None before either."""

    # -- what there is ------------------------------------------------------------------------------------------------

    def follow(self, wanted_records: int, compacted: bool) -> None:
        """What the topic wants now, and whether its log is compacted; `files` has followed the log before."""
        self.wanted_records, self.compacted = wanted_records, compacted
        if not wanted_records:
            if self._loaded is not False:
                self._remove_all()
            return
        start, stable, generation = self._files.bounds
        if not self._loaded:
            self._loaded = True
            self._unverified = self._names(SPLIT_SUFFIX)
        elif generation != self._generation:
            self._log_has_changed()
        self._generation = generation
        if any(split.may_count == compacted or split.manifest.following > stable for split in self.ready):
            self._judge_again(stable)
        while self.ready and self.ready[0].manifest.following <= start:
            self._discard(self.ready.pop(0).path)

    def built(self, name: str) -> None:
        """Another one is there, by this name."""
        if not self.wanted_records:
            self._discard(f"{self._directory}/{name}")
        elif name not in self._unverified and all(split.path != f"{self._directory}/{name}" for split in self.ready):
            self._unverified.append(name)

    def distrust(self, split: Split, fault: Exception) -> None:
        """A question to the split has failed: it is made anew."""
        if split in self.ready:
            self.ready.remove(split)
            self._give_up(split.path, str(fault))

    def remove(self) -> None:
        """Nothing of it is to be used any more; the files are deleted by who says so."""
        self.ready.clear()
        self._unverified.clear()
        self._verifying = None

    @property
    def state(self) -> SplitState:
        """What there is."""
        manifests = [split.manifest for split in self.ready]
        return SplitState(
            len(manifests),
            sum(each.records for each in manifests),
            sum(each.bytes for each in manifests),
            len(self._unverified),
        )

    # -- verifying ----------------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Verify a little more; False when there is nothing to do."""
        if not self._unverified:
            return False
        if self._verifying is None:
            self._verifying = self._take_up(f"{self._directory}/{self._unverified[0]}")
        try:
            next(self._verifying)
            return True
        except StopIteration:
            pass
        except (ChronikError, KafkaError, OSError) as fault:
            self._give_up(f"{self._directory}/{self._unverified[0]}", str(fault))
        self._verifying = None
        del self._unverified[0]
        return True

    def _take_up(self, path: str) -> Iterator[None]:
        manifest = read_manifest(self._disk, path)
        start, stable, _ = self._files.bounds
        if manifest.following <= start:
            self._discard(path)
            return
        yield from verifying(self._disk, path, manifest)
        inverted = self._open_index(path)
        if inverted.records != manifest.records:
            raise damaged(path, f"it has {inverted.records} records, {manifest.records} belong to it")
        if manifest.following > stable:
            raise CorruptLogError(f"{path} goes beyond the log, which ends at {stable}")
        self._check_last_batch(path, manifest)
        if any(
            each.manifest.first < manifest.following and manifest.first < each.manifest.following for each in self.ready
        ):
            raise CorruptLogError(f"{path} has offsets of another split")
        split = self._judged(Split(path, manifest, inverted, False))
        if split is not None:
            self.ready.append(split)
            self.ready.sort(key=lambda each: each.manifest.first)

    def _check_last_batch(self, path: str, manifest: Manifest) -> None:
        """Raise CorruptLogError where the log has another batch where the split ends."""
        if manifest.last_offset < self._files.bounds.start:
            return  # of a range without a batch, or one that is about to go
        last = next(self._files.read(manifest.last_offset, manifest.last_offset + 1), None)
        wanted = (manifest.last_offset, manifest.last_crc, manifest.last_epoch)
        if last is None or (last.header.base_offset, last.header.crc, last.header.partition_leader_epoch) != wanted:
            raise CorruptLogError(f"{path} is not of this log: the batch at {manifest.last_offset} is another one")

    def _judged(self, split: Split) -> Split | None:
        """The split with what it may do now; None where it has to be made anew."""
        if not self.compacted:
            if split.manifest.exact:
                return split._replace(may_count=True)
            self._give_up(split.path, "it is of a time when the topic was compacted")
            return None
        if split.manifest.exact:
            manifest = msgspec.structs.replace(split.manifest, exact=False)
            try:
                self._disk.replace(f"{split.path}/{MANIFEST}", written(manifest), durable=False)
            except OSError as fault:
                self._give_up(split.path, str(fault))
                return None
            split = split._replace(manifest=manifest)
        return split._replace(may_count=False)

    def _judge_again(self, stable: int) -> None:
        found, self.ready = self.ready, []
        for split in found:
            if split.manifest.following > stable:
                self._give_up(split.path, f"the log was cut at {stable}")
                continue
            judged = self._judged(split)
            if judged is not None:
                self.ready.append(judged)

    def _log_has_changed(self) -> None:
        """Its files are others than before."""
        self._verifying = None  # it looks at the log at its end, and at the bounds at its beginning
        found, self.ready = self.ready, []
        for split in found:
            if not self.compacted:
                self._give_up(split.path, "the log was cut, or compacted")
                continue
            try:
                self._check_last_batch(split.path, split.manifest)
                self.ready.append(split)
            except (CorruptLogError, KafkaError, OSError) as fault:
                self._give_up(split.path, str(fault))

    def _give_up(self, path: str, why: str) -> None:
        self._tell(f"{why if path in why else f'{path}: {why}'}; the split is made anew")
        self._discard(path)

    def _discard(self, path: str) -> None:
        try:
            self._disk.remove(path)
        except OSError as fault:
            self._tell(f"{path} cannot be deleted: {fault}")

    def _remove_all(self) -> None:
        self._loaded = False
        self.remove()
        for name in (*self._names(SPLIT_SUFFIX), *self._names(UNFINISHED_SUFFIX)):
            self._discard(f"{self._directory}/{name}")

    def _names(self, suffix: str) -> list[str]:
        try:
            return [name for name in self._disk.list(self._directory) if name.endswith(suffix)]
        except FileNotFoundError:
            return []

    # -- what is to be made -------------------------------------------------------------------------------------------

    def due(self, groups: Sequence[OpenGroup | WrittenGroup]) -> Range | None:
        """The range of the next split, of blocks that tier 1 has; None while there are too few."""
        if not self.wanted_records or self._unverified:
            return None
        start = self._files.bounds.start
        first, before = start, _NOWHERE
        for split in self.ready:
            if split.manifest.first > first:
                before = split.manifest.first
                break
            first = max(first, split.manifest.following)
        records = size = 0
        for group in groups:
            table = group.table
            if not len(table) or int(table["following"][-1]) <= first:
                continue
            for block_first, following, count, length in zip(
                table["first"].tolist(),
                table["following"].tolist(),
                table["records"].tolist(),
                table["bytes"].tolist(),
                strict=True,
            ):
                if following <= first:
                    continue
                if block_first > first and not records:
                    first = block_first
                records, size = records + count, size + length
                if following >= before or records >= self.wanted_records or size >= MOST_BYTES:
                    return Range(first, min(following, before))
        return None
