"""The data directory: who holds it, its format and migration, the mark of a clean stop, on the real disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from chronik.data_directory import FORMAT_VERSION, MIGRATIONS, DataDirectory
from chronik.errors import DataDirectoryError
from chronik.log.disk import RealDisk
from chronik.model import uuid_from_text
from chronik.raft.providers import format_store, open_store, preferred_provider

_HOLD = "import sys; from chronik.data_directory import hold; hold(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


class Cut(Exception):
    """Power goes here."""


class CutDisk(RealDisk):
    """The real disk, until the `steps`-th change, which does not happen any more."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def _step(self) -> None:
        if self.steps == 0:
            raise Cut
        self.steps -= 1

    def replace(self, path: str, content: bytes, durable: bool = True) -> None:
        self._step()
        super().replace(path, content, durable)

    def remove(self, path: str) -> None:
        self._step()
        super().remove(path)

    def make_directory(self, path: str) -> None:
        self._step()
        super().make_directory(path)


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = os.path.abspath(self.mktemp())

    def take(self, node_id: int = 1, disk: RealDisk | None = None) -> DataDirectory:
        directory = DataDirectory.take(self.path, disk or RealDisk(), node_id, preferred_provider(), format_store)
        self.addCleanup(directory.release)
        return directory

    def refusal(self, node_id: int = 1) -> str:
        message = str(self.assertRaises(DataDirectoryError, self.take, node_id))
        self.assertNotIn("\n", message)
        return message

    def format(self) -> dict[str, object]:
        contents: dict[str, object] = json.loads(Path(self.path, "format").read_text())
        return contents

    def write_format(self, **contents: object) -> None:
        os.makedirs(self.path, exist_ok=True)
        Path(self.path, "format").write_text(json.dumps(contents))


class Taking(Case):
    def test_a_new_directory_gets_ids_that_stay(self) -> None:
        first = self.take()
        self.assertEqual(len(uuid_from_text(first.cluster_id)), 16)
        self.assertNotEqual(first.cluster_id, first.directory_id)
        open_store(first.metadata_store, first.meta).close()
        self.assertTrue(os.path.isdir(first.topics))
        first.release()
        second = self.take()
        self.assertEqual((second.cluster_id, second.directory_id), (first.cluster_id, first.directory_id))

    def test_another_node_in_this_process_is_refused(self) -> None:
        self.take()
        self.assertIn(f"is held by process {os.getpid()}; stop that node", self.refusal())

    def test_another_process_is_named_and_its_end_frees_the_directory(self) -> None:
        self.take().release()
        holder = subprocess.Popen(
            [sys.executable, "-c", _HOLD, self.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        )
        assert holder.stdout is not None
        assert holder.stdin is not None
        try:
            self.assertEqual(holder.stdout.readline(), "held\n")
            self.assertIn(f"{self.path} is held by process {holder.pid};", self.refusal())
        finally:
            holder.kill()
            holder.wait()
            holder.stdin.close()
            holder.stdout.close()
        self.take()

    def test_release_may_be_repeated(self) -> None:
        directory = self.take()
        directory.release()
        directory.release()
        self.take()

    def test_a_refusal_lets_go_of_the_lock(self) -> None:
        self.take().release()
        self.assertIn("belongs to node 1, this node's id is 2", self.refusal(node_id=2))
        self.take()

    def test_a_path_that_is_a_file(self) -> None:
        Path(self.path).write_text("")
        self.assertIn("cannot be used: ", self.refusal())


class Format(Case):
    def test_a_newer_format_is_refused_and_left_alone(self) -> None:
        self.write_format(format_version=FORMAT_VERSION + 1, something="else")
        before = self.format()
        self.assertIn(f"has format {FORMAT_VERSION + 1}, written by a newer release", self.refusal())
        self.assertEqual(self.format(), before)

    def test_damage_is_refused(self) -> None:
        good = {
            "format_version": 1,
            "cluster_id": "A" * 22,
            "node_id": 1,
            "directory_id": "A" * 22,
            "metadata_store": "x",
        }
        for contents in [{**good, "node_id": "1"}, {**good, "cluster_id": "short"}, {**good, "format_version": -1}, {}]:
            self.write_format(**contents)
            self.assertIn("format is damaged", self.refusal())
        Path(self.path, "format").write_bytes(b"\xff\x00")
        self.assertIn("format is damaged", self.refusal())

    def test_data_without_a_format_file_is_refused(self) -> None:
        os.makedirs(os.path.join(self.path, "topics"))
        self.assertIn("holds topics but no format file", self.refusal())

    def test_every_older_version_has_its_step(self) -> None:
        self.assertEqual(sorted(MIGRATIONS), list(range(FORMAT_VERSION)))

    def version_0(self) -> None:
        self.write_format(format_version=0, cluster_id="AAAAAAAAAAAAAAAAAAAAAQ", node_id=1)

    def test_0_to_1_gives_the_directory_an_id(self) -> None:
        self.version_0()
        directory = self.take()
        self.assertEqual((directory.cluster_id, directory.metadata_store), ("AAAAAAAAAAAAAAAAAAAAAQ", "leveldb"))
        self.assertEqual(len(uuid_from_text(directory.directory_id)), 16)
        self.assertEqual(self.format()["format_version"], 1)
        directory.release()
        self.assertEqual(self.take().directory_id, directory.directory_id)


class Cuts(Case):
    """Power goes before each change in turn; what is then found is usable, and says the same ever after."""

    def cut_everywhere(self, prepare: object) -> int:
        for steps in range(100):
            self.path = os.path.abspath(self.mktemp())
            prepare()  # type: ignore[operator]
            try:
                self.take(disk=CutDisk(steps)).release()
            except Cut:
                cut = True
            else:
                cut = False
            directory = self.take()
            directory.release()
            again = self.take()
            self.assertEqual((again.cluster_id, again.directory_id), (directory.cluster_id, directory.directory_id))
            self.assertEqual(self.format()["format_version"], FORMAT_VERSION)
            self.assertNotIn("formatting", self.format())
            if self.format()["cluster_id"] != "AAAAAAAAAAAAAAAAAAAAAQ":
                open_store(again.metadata_store, again.meta).close()
            again.release()
            if not cut:
                return steps
        raise AssertionError("the directory is never taken whole")

    def test_cut_while_a_directory_is_made(self) -> None:
        self.assertGreaterEqual(self.cut_everywhere(lambda: None), 4)

    def test_cut_while_a_directory_is_migrated(self) -> None:
        def version_0() -> None:
            self.write_format(format_version=0, cluster_id="AAAAAAAAAAAAAAAAAAAAAQ", node_id=1)

        self.assertGreaterEqual(self.cut_everywhere(version_0), 2)

    def test_cut_while_the_mark_is_removed(self) -> None:
        self.take().release()
        for steps in range(5):
            directory = self.take()
            directory.mark_clean()
            directory.release()
            try:
                taken = self.take(disk=CutDisk(steps))
            except Cut:
                taken = self.take()
            # Whoever gets the directory sees the mark, and after that nobody does until it is written anew.
            self.assertTrue(taken.was_clean or steps > 1)
            taken.release()
            after = self.take()
            self.assertFalse(after.was_clean)
            after.release()


class CleanShutdown(Case):
    def test_only_a_marked_stop_is_clean_and_only_once(self) -> None:
        first = self.take()
        self.assertFalse(first.was_clean)
        first.mark_clean()
        first.release()
        second = self.take()
        self.assertTrue(second.was_clean)
        second.release()
        self.assertFalse(self.take().was_clean)
