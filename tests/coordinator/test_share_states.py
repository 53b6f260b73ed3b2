"""The share coordinator: what is kept of share partitions, in Kafka's records, over restarts, failed appends and deletions."""

from __future__ import annotations

import struct
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from chronik.coordinator.settings import ShareSettings
from chronik.coordinator.share_coordinator import key_of
from chronik.coordinator.share_records import ShareEntry, SnapshotValue, UpdateValue, decode_share_entry
from chronik.coordinator.share_shard import combined, merged
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import ILogTrimmer, IShareStates
from chronik.model import SharePartitionKey, ShareState, StateBatch
from chronik.wire.codec import MalformedMessage
from tests.coordinator.share_states import EVENTS, PARTITION, ShareWorld, TrimmedLog, key

batches = st.lists(
    st.builds(
        lambda first, length, state, deliveries: StateBatch(first, first + length, state, deliveries),
        st.integers(0, 30),
        st.integers(0, 10),
        st.sampled_from((0, 2, 4)),
        st.integers(0, 3),
    ),
    max_size=12,
)


class CombinationTests(SynchronousTestCase):
    """Statements about the same records."""

    @settings(max_examples=300, deadline=None)
    @given(batches, st.integers(-1, 35))
    def test_record_by_record(self, said: list[StateBatch], start: int) -> None:
        result = combined(said, start)
        model: dict[int, tuple[int, int]] = {}
        for first, last, state, deliveries in said:
            for offset in range(max(first, start), last + 1):
                model[offset] = max(model.get(offset, (-1, -1)), (deliveries, state))
        found = {
            offset: (each.deliveries, each.state) for each in result for offset in range(each.first, each.last + 1)
        }
        self.assertEqual(found, model)
        for at in range(len(said) + 1):
            self.assertEqual(merged(combined(said[:at], start), said[at:], start), result)
            self.assertEqual(merged(combined(said[:at], -1), said[at:], start), result)
        for before, after in pairwise(result):
            self.assertLess(before.last, after.first)
            self.assertFalse(before.last + 1 == after.first and before[2:] == after[2:], "these are one")


class RecordTests(SynchronousTestCase):
    """The format of the log."""

    def test_bytes(self) -> None:
        value = SnapshotValue(snapshot_epoch=1, state_epoch=2, leader_epoch=3, start_offset=4)
        encoded, body = ShareEntry(key(7), value).encode()
        self.assertEqual(encoded, b"\0\0\0\x01g" + EVENTS + b"\0\0\0\x07")
        self.assertEqual(body, b"\0\0" + struct.pack(">iiiqqq", 1, 2, 3, 4, 0, 0) + b"\x01\x00")
        encoded, body = ShareEntry(key(7), UpdateValue(snapshot_epoch=1, leader_epoch=3, start_offset=-1)).encode()
        self.assertEqual(encoded[:2], b"\0\x01")
        self.assertEqual(body, b"\0\0" + struct.pack(">iiq", 1, 3, -1) + b"\x01\x00")
        self.assertEqual(ShareEntry(key(7), None).encode(), (b"\0\0\0\x01g" + EVENTS + b"\0\0\0\x07", None))

    def test_round_trip(self) -> None:
        for value in (SnapshotValue(state_epoch=5), UpdateValue(start_offset=9), None):
            entry = ShareEntry(key(3), value)
            self.assertEqual(decode_share_entry(*entry.encode()), entry)

    def test_what_is_not_ours(self) -> None:
        encoded, body = ShareEntry(key(), SnapshotValue()).encode()
        self.assertIsNone(decode_share_entry(b"\0\x09" + encoded[2:], body))
        for bad in ((None, body), (b"\0", body), (encoded[:-1], body), (encoded, b""), (encoded, b"\0\x01" + body[2:])):
            self.assertRaises(MalformedMessage, decode_share_entry, *bad)


class CoordinatorTests(SynchronousTestCase):
    """What leaders and group coordinators ask for."""

    def setUp(self) -> None:
        self.world = ShareWorld()
        self.states = self.world.coordinator

    def code(self, operation: object) -> ErrorCode:
        result = self.world.result(operation)
        self.assertIsInstance(result, KafkaError)
        code: ErrorCode = result.code
        return code

    def test_interfaces(self) -> None:
        self.assertTrue(verifyObject(IShareStates, self.states))
        self.assertTrue(verifyObject(ILogTrimmer, self.world.log))

    def test_life_of_a_share_partition(self) -> None:
        result, states = self.world.result, self.states
        self.assertEqual(result(states.start_of(key())), (-1, 0))
        result(states.initialise(key(), 3, -1))
        self.assertEqual(result(states.read(key(), 0)), ShareState(3, -1))
        result(states.write(key(), 3, 0, 10, [StateBatch(10, 19, 2, 1), StateBatch(25, 29, 0, 2)]))
        self.assertEqual(
            result(states.read(key(), 0)), ShareState(3, 10, (StateBatch(10, 19, 2, 1), StateBatch(25, 29, 0, 2)))
        )
        result(states.write(key(), 3, 0, 20, [StateBatch(25, 29, 2, 3)]))
        self.assertEqual(result(states.read(key(), 0)), ShareState(3, 20, (StateBatch(25, 29, 2, 3),)))
        self.assertEqual(result(states.start_of(key())), (20, 0))
        result(states.delete(key()))
        result(states.delete(key()))
        self.assertEqual(self.code(states.read(key(), 0)), ErrorCode.INVALID_REQUEST)
        self.assertEqual(
            [type(entry.value) for entry in self.world.entries()],
            [SnapshotValue, UpdateValue, UpdateValue, type(None)],
        )

    def test_epochs(self) -> None:
        result, states = self.world.result, self.states
        result(states.initialise(key(), 3, 5))
        result(states.read(key(), 4))  # a new leader: it is written, so that older ones are fenced
        self.assertEqual(len(self.world.entries()), 2)
        result(states.read(key(), 4))
        self.assertEqual(len(self.world.entries()), 2)
        self.assertEqual(self.code(states.read(key(), 3)), ErrorCode.FENCED_LEADER_EPOCH)
        self.assertEqual(self.code(states.write(key(), 3, 3, 5, [])), ErrorCode.FENCED_LEADER_EPOCH)
        result(states.initialise(key(), 4, 100))
        self.assertEqual(self.code(states.initialise(key(), 3, 0)), ErrorCode.FENCED_STATE_EPOCH)
        self.assertEqual(self.code(states.write(key(), 3, 4, 5, [])), ErrorCode.FENCED_STATE_EPOCH)
        self.assertEqual(result(states.read(key(), 4)), ShareState(4, 100))
        result(states.write(key(), -1, -1, -1, [StateBatch(100, 101, 2, 1)]))
        self.assertEqual(result(states.read(key(), 4)), ShareState(4, 100, (StateBatch(100, 101, 2, 1),)))

    def test_what_is_not_there(self) -> None:
        states = self.states
        self.assertEqual(self.code(states.write(key(), 0, 0, 0, [])), ErrorCode.INVALID_REQUEST)
        self.assertEqual(self.code(states.initialise(key(-1), 0, 0)), ErrorCode.INVALID_REQUEST)
        for operation in (
            states.initialise(key(10), 0, 0),
            states.initialise(key(0, topic_id=bytes(16)), 0, 0),
            states.delete(key(10)),
            states.start_of(key(10)),
        ):
            self.assertEqual(self.code(operation), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        self.assertEqual(self.world.entries(), [])

    def test_a_restart_reads_the_log(self) -> None:
        result, states = self.world.result, self.states
        for partition in range(3):
            result(states.initialise(key(partition), 1, 0))
            result(states.write(key(partition), 1, 2, 5 * partition, [StateBatch(20, 29, 2, 1)]))
        result(states.delete(key(1)))
        again = ShareWorld(log=self.world.log)
        self.assertEqual(again.shard.kept, self.world.shard.kept)
        self.assertEqual(
            again.result(again.coordinator.read(key(2), 2)), ShareState(1, 10, (StateBatch(20, 29, 2, 1),))
        )
        error = again.result(again.coordinator.write(key(2), 1, 1, 0, []))
        self.assertEqual(error.code, ErrorCode.FENCED_LEADER_EPOCH)

    def test_a_failed_append_changes_nothing(self) -> None:
        result, states = self.world.result, self.states
        result(states.initialise(key(), 1, 0))
        self.world.log.failing = ErrorCode.NOT_ENOUGH_REPLICAS
        self.assertEqual(
            self.code(states.write(key(), 1, 0, 0, [StateBatch(0, 9, 2, 1)])), ErrorCode.COORDINATOR_NOT_AVAILABLE
        )
        self.world.log.failing = None
        self.assertEqual(result(states.read(key(), 0)), ShareState(1, 0))

    def test_turns(self) -> None:
        begin, states = self.world.begin, self.states
        self.world.result(states.initialise(key(), 1, 0))
        self.world.result(states.initialise(key(1), 1, 0))
        self.world.log.holding = True
        first = begin(states.write(key(), 1, 0, 0, [StateBatch(0, 9, 2, 1)]))
        second = begin(states.write(key(), 1, 0, 10, [StateBatch(10, 19, 2, 1)]))
        read = begin(states.read(key(), 0))
        other = begin(states.write(key(1), 1, 0, 0, [StateBatch(0, 9, 2, 1)]))
        self.assertEqual(len(self.world.log.held), 2, "one of each share partition")
        self.world.log.release(index=1)
        self.assertEqual(other, [None])
        self.world.log.release(ErrorCode.NOT_ENOUGH_REPLICAS)
        self.assertEqual(first[0].code, ErrorCode.COORDINATOR_NOT_AVAILABLE)
        self.assertEqual((second, read), ([], []))
        self.world.log.release()
        self.assertEqual((second, read), ([None], [ShareState(1, 10, (StateBatch(10, 19, 2, 1),))]))

    def test_those_who_wait_are_told_when_it_is_led_elsewhere(self) -> None:
        begin, states = self.world.begin, self.states
        self.world.result(states.initialise(key(), 1, 0))
        self.world.log.holding = True
        begin(states.write(key(), 1, 0, 0, []))
        waiting = begin(states.write(key(), 1, 0, 0, []))
        states.stop()
        self.assertEqual(waiting[0].code, ErrorCode.NOT_COORDINATOR)

    def test_the_topic_is_created_when_it_is_needed(self) -> None:
        world = ShareWorld(led=False)
        error = self.assertRaises(KafkaError, world.coordinator.summary_now, key())
        self.assertEqual(error.code, ErrorCode.NOT_COORDINATOR)
        self.assertEqual(world.created, 1)
        self.assertEqual(world.result(world.coordinator.start_of(key())), (-1, 0))

    def test_deleted_topics(self) -> None:
        result, states = self.world.result, self.states
        result(states.initialise(key(), 1, 0))
        logs = SharePartitionKey("g", b"logs".ljust(16, b"-"), 0)
        result(states.initialise(logs, 1, 7))
        self.world.metadata.delete("events")
        self.world.settle()
        self.assertEqual(list(self.world.shard.kept), [logs])
        self.assertEqual(list(ShareWorld(log=self.world.log).shard.kept), [logs])


class TidyingTests(SynchronousTestCase):
    """The log does not grow for ever."""

    def test_snapshots_now_and_then(self) -> None:
        world = ShareWorld(ShareSettings(share_coordinator_snapshot_update_records_per_snapshot=3))
        world.result(world.coordinator.initialise(key(), 1, 0))
        for offset in range(8):
            world.result(world.coordinator.write(key(), 1, 0, offset, [StateBatch(offset, offset, 2, 1)]))
        kinds = [isinstance(entry.value, SnapshotValue) for entry in world.entries()]
        self.assertEqual(kinds, [True, False, False, False, True, False, False, False, True])
        self.assertEqual(world.shard.kept[key()].snapshot_epoch, 2)

    def test_what_is_not_needed_is_given_up(self) -> None:
        world = ShareWorld(ShareSettings(share_coordinator_snapshot_update_records_per_snapshot=3))
        for partition in (0, 1):
            world.result(world.coordinator.initialise(key(partition), 1, 0))
        for offset in range(2000):
            world.result(world.coordinator.write(key(), 1, 0, offset, [StateBatch(offset, offset, 2, 1)]))
        world.result(world.coordinator.tidy())
        self.assertEqual(world.log.starts, {PARTITION: 1}, "partition 1 was said once, at the beginning")
        world.clock.advance(300)
        world.settle()
        self.assertGreater(world.log.starts[PARTITION], 1990)
        again = ShareWorld(log=world.log)
        self.assertEqual(again.shard.kept, world.shard.kept)

    def test_an_empty_log_stays_empty(self) -> None:
        log = TrimmedLog()
        world = ShareWorld(log=log)
        world.result(world.coordinator.tidy())
        self.assertEqual(log.starts, {})


class KeyTests(SynchronousTestCase):
    """How FindCoordinator names a share partition."""

    def test_names(self) -> None:
        self.assertEqual(key_of(str(key(3))), key(3))
        for text in ("", "g", "g:x:1", f":{str(key())[2:]}", f"{key()}x", f"{key()}:1", "g:AAAAAAAAAAAAAAAAAAAAAA:1e3"):
            error = self.assertRaises(KafkaError, key_of, text)
            self.assertEqual(error.code, ErrorCode.INVALID_REQUEST)
