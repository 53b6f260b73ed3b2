"""The contract of IKeyValueStore, for every provider; and what each does with damaged files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

import chronik
from chronik.errors import CorruptLogError, DataDirectoryError, StorageError
from chronik.interfaces import IKeyValueStore
from chronik.raft.memory import MemoryStore
from chronik.raft.providers import LEVELDB, SQLITE, format_store, open_store, preferred_provider

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(os.path.abspath(chronik.__file__)))}
"""For child processes, so that they import the same code."""


class StoreContract:
    """What every provider promises. A subclass says how to `open` the store, and again after `close`."""

    open: Callable[[], IKeyValueStore]

    def test_provides_the_interface(self) -> None:
        store = self.open()
        self.addCleanup(store.close)
        self.assertTrue(verifyObject(IKeyValueStore, store))

    def test_what_was_written_is_read(self) -> None:
        store = self.open()
        self.addCleanup(store.close)
        store.write([(b"a", b"1"), (b"b", b""), (b"\x00\xff", b"x" * 100_000)])
        self.assertEqual(store.get(b"a"), b"1")
        self.assertEqual(store.get(b"b"), b"")
        self.assertEqual(store.get(b"\x00\xff"), b"x" * 100_000)
        self.assertIsNone(store.get(b"c"))

    def test_a_write_replaces_and_deletes_together(self) -> None:
        store = self.open()
        self.addCleanup(store.close)
        store.write([(b"a", b"1"), (b"b", b"2")])
        store.write([(b"a", b"3")], [b"b", b"never there"])
        self.assertEqual(list(store.scan(b"", b"\xff")), [(b"a", b"3")])

    def test_a_key_that_is_put_and_deleted_in_one_write_stays(self) -> None:
        store = self.open()
        self.addCleanup(store.close)
        store.write([(b"a", b"1")], [b"a"])
        self.assertEqual(store.get(b"a"), b"1")

    def test_a_scan_is_ordered_and_bounded(self) -> None:
        store = self.open()
        self.addCleanup(store.close)
        keys = [b"e\x00", b"e\x01", b"e\x01\x00", b"e\xff", b"f", b"d\xff"]
        store.write([(key, key) for key in keys])
        self.assertEqual([key for key, _ in store.scan(b"e", b"f")], [b"e\x00", b"e\x01", b"e\x01\x00", b"e\xff"])
        self.assertEqual(list(store.scan(b"g", b"h")), [])

    def test_contents_survive_reopening(self) -> None:
        store = self.open()
        store.write([(b"%03d" % number, b"v%d" % number) for number in range(200)])
        store.close()
        store = self.open()
        self.addCleanup(store.close)
        self.assertEqual(len(list(store.scan(b"", b"\xff"))), 200)
        self.assertEqual(store.get(b"123"), b"v123")


class MemoryStoreTests(StoreContract, SynchronousTestCase):
    """The contract in memory, and a flipped bit there."""

    def setUp(self) -> None:
        self.contents = MemoryStore().contents

    def open(self) -> MemoryStore:
        return MemoryStore(self.contents)

    def test_a_flipped_bit_is_found(self) -> None:
        store = self.open()
        store.write([(b"a", b"12345")])
        for position in range(len(self.contents[b"a"])):
            sealed = bytearray(self.contents[b"a"])
            sealed[position] ^= 1
            damaged = MemoryStore(MemoryStore().contents.__class__({b"a": bytes(sealed)}))
            self.assertRaises(CorruptLogError, damaged.get, b"a")
            self.assertRaises(CorruptLogError, list, damaged.scan(b"a", b"b"))

    def test_a_value_under_another_key_is_found(self) -> None:
        store = self.open()
        store.write([(b"a", b"12345")])
        self.contents[b"b"] = self.contents[b"a"]
        self.assertRaises(CorruptLogError, store.get, b"b")


class DiskStoreContract(StoreContract):
    """What the providers on disk promise beside: formatting is a step of its own, and damage never goes unnoticed."""

    provider: str
    entries = 60

    def setUp(self) -> None:
        if self.provider == LEVELDB and preferred_provider() != LEVELDB:
            raise SkipTest("plyvel has no wheel for this Python")
        self.root = os.path.abspath(self.mktemp())
        os.makedirs(self.root)
        self.path = os.path.join(self.root, "meta")
        format_store(self.provider, self.path)

    def open(self) -> IKeyValueStore:
        return open_store(self.provider, self.path)

    def test_opening_never_makes_a_store(self) -> None:
        missing = os.path.join(self.root, "missing")
        self.assertRaises(StorageError, open_store, self.provider, missing)
        os.makedirs(missing, exist_ok=True)
        self.assertRaises((StorageError, CorruptLogError), open_store, self.provider, missing)

    def test_formatting_never_replaces_a_store(self) -> None:
        self.assertRaises(StorageError, format_store, self.provider, self.path)

    def test_it_is_open_once_at_a_time(self) -> None:
        store = self.open()
        self.addCleanup(store.close)
        script = f"from chronik.raft.providers import open_store; open_store({self.provider!r}, {self.path!r})"
        second = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=ENVIRONMENT
        )
        self.assertNotEqual(second.returncode, 0)
        self.assertIn("StorageError", second.stderr)

    def _crashed(self) -> tuple[str, list[tuple[bytes, bytes]]]:
        """The directory as a crash leaves it, never closed, and all pairs that were written."""
        pairs = [(b"e%07d" % number, (b"value %d " % number) * 20) for number in range(self.entries)]
        store = self.open()
        for pair in pairs:
            store.write([pair])
        crashed = os.path.join(self.root, "crashed")
        shutil.copytree(self.path, crashed)
        store.close()
        return crashed, pairs

    def _read_copy(self, path: str) -> list[tuple[bytes, bytes]] | None:
        """All pairs of a damaged copy, or None when the damage was noticed."""
        try:
            store = open_store(self.provider, path)
        except (StorageError, CorruptLogError):
            return None
        try:
            return list(store.scan(b"", b"\xff"))
        except (StorageError, CorruptLogError):
            return None
        finally:
            store.close()

    def test_a_flipped_byte_never_goes_unnoticed(self) -> None:
        """At sampled places of every file: either the store refuses, or all but the unsynced end of a log is there."""
        crashed, pairs = self._crashed()
        noticed = 0
        for name in sorted(os.listdir(crashed)):
            size = os.path.getsize(os.path.join(crashed, name))
            for position in range(0, size, max(1, size // 25)):
                copy = os.path.join(self.root, "copy")
                shutil.copytree(crashed, copy)
                with open(os.path.join(copy, name), "r+b") as file:
                    file.seek(position)
                    byte = file.read(1)
                    file.seek(position)
                    file.write(bytes([byte[0] ^ 0x41]))
                found = self._read_copy(copy)
                shutil.rmtree(copy)
                if found is None:
                    noticed += 1
                else:
                    # The last record of a log may look torn, as after a power loss; nothing before it may be missing.
                    self.assertIn(found, (pairs, pairs[:-1]), f"byte {position} of {name}")
        self.assertGreater(noticed, 10)

    def test_a_lost_file_never_goes_unnoticed(self) -> None:
        crashed, pairs = self._crashed()
        for name in sorted(os.listdir(crashed)):
            copy = os.path.join(self.root, "copy")
            shutil.copytree(crashed, copy)
            os.remove(os.path.join(copy, name))
            found = self._read_copy(copy)
            shutil.rmtree(copy)
            self.assertIn(found, (None, pairs) if self.may_miss(name) else (None,), name)

    def may_miss(self, name: str) -> bool:
        """Whether the store can do without that file."""
        raise NotImplementedError

    def test_a_copy_at_every_step_has_all_that_was_written(self) -> None:
        """A copy of the files after each write is what a crash would leave: it opens, with everything acknowledged."""
        store = self.open()
        self.addCleanup(store.close)
        for number in range(25):
            store.write([(b"e%03d" % number, b"v" * number)], [b"e%03d" % (number - 10)] if number >= 10 else [])
            copy = os.path.join(self.root, "copy")
            shutil.copytree(self.path, copy)
            first = max(0, number - 9)
            self.assertEqual(
                self._read_copy(copy), [(b"e%03d" % each, b"v" * each) for each in range(first, number + 1)]
            )
            shutil.rmtree(copy)

    def test_kill_keeps_every_acknowledged_write(self) -> None:
        """A child writes and reports each write; it is killed with SIGKILL in the middle of it."""
        script = f"""
            import sys
            from chronik.raft.providers import open_store
            store = open_store({self.provider!r}, {self.path!r})
            number = 0
            while True:
                store.write([(b"e%07d" % number, b"v" * 50), (b"last", b"%d" % number)])
                print(number, flush=True)
                number += 1
        """
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, env=ENVIRONMENT
        )
        assert child.stdout is not None
        acknowledged = -1
        for line in child.stdout:
            acknowledged = int(line)
            if acknowledged == 40:
                child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        self.assertGreaterEqual(acknowledged, 40)
        store = self.open()
        self.addCleanup(store.close)
        written = [key for key, _ in store.scan(b"e", b"f")]
        self.assertEqual(written, [b"e%07d" % number for number in range(len(written))])
        self.assertGreaterEqual(len(written), acknowledged + 1)
        self.assertEqual(store.get(b"last"), b"%d" % (len(written) - 1))


class LevelDBStoreTests(DiskStoreContract, SynchronousTestCase):
    """The contract on LevelDB."""

    provider = LEVELDB

    def may_miss(self, name: str) -> bool:
        return name in ("LOCK", "LOG", "LOG.old")

    def test_the_store_is_gone_when_current_is(self) -> None:
        os.remove(os.path.join(self.path, "CURRENT"))
        self.assertRaises(StorageError, self.open)


class SqliteStoreTests(DiskStoreContract, SynchronousTestCase):
    """The contract on sqlite3."""

    provider = SQLITE

    def may_miss(self, name: str) -> bool:
        return name.endswith("-journal")

    def test_a_directory_with_odd_characters_works(self) -> None:
        path = os.path.join(self.root, "a #b?c%20d")
        format_store(SQLITE, path)
        store = open_store(SQLITE, path)
        self.addCleanup(store.close)
        store.write([(b"a", b"1")])
        self.assertEqual(store.get(b"a"), b"1")


class ProviderTests(SynchronousTestCase):
    """Providers by their stored names."""

    def test_an_unknown_name_is_refused(self) -> None:
        self.assertRaises(DataDirectoryError, open_store, "rocks", "/nowhere")
        self.assertRaises(DataDirectoryError, format_store, "rocks", "/nowhere")
