"""Every declared message in every version: round trips, defaults, and what a version cannot hold."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.steps import at_once
from chronik.wire.apis import ApiKey, message_classes
from chronik.wire.codec import Buffer, MalformedMessage, Message, UnsupportedField, encode_struct
from chronik.wire.messages.metadata import MetadataResponse, MetadataResponsePartition, MetadataResponseTopic
from chronik.wire.schema import Field, Struct
from tests.wire.values import all_messages, message_strategy, random_message

EXAMPLES = settings(
    max_examples=5,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class RoundTripTests(SynchronousTestCase):
    """What is encoded comes back the same; one test for each API, made below."""


def _round_trips(key: ApiKey) -> Any:
    @EXAMPLES
    @given(st.data())
    def check(data: st.DataObject) -> None:
        for cls in message_classes(key):
            for version in range(cls.VERSIONS.lowest, cls.VERSIONS.highest + 1):
                message = data.draw(message_strategy(cls, version))
                encoded = message.encode(version)
                decoded, end = cls.decode(encoded, version)
                assert end == len(encoded), f"{cls.__name__} v{version}: {end} of {len(encoded)} bytes read"
                assert decoded == message, f"{cls.__name__} v{version}: {decoded} is not {message}"
                assert decoded.encode(version) == encoded, f"{cls.__name__} v{version}"
                assert at_once(cls.decode_in_steps(encoded, version)) == (message, end), f"{cls.__name__} v{version}"
                chunks: list[Buffer] = []
                at_once(message.encode_in_steps(version, chunks, bytearray()))
                assert b"".join(chunks) == encoded, f"{cls.__name__} v{version}, encoded in steps"

    def test(self: SynchronousTestCase) -> None:
        check()

    test.__doc__ = f"Requests and responses of {key.name} survive encoding in all versions, in steps too."
    return test


for _key in ApiKey:
    setattr(RoundTripTests, f"test_{_key.name.lower()}", _round_trips(_key))


class DeclarationTests(SynchronousTestCase):
    """The declarations as a whole."""

    def test_every_api_has_both_messages_at_the_same_versions(self) -> None:
        for key in ApiKey:
            request, response = message_classes(key)
            self.assertEqual((request.API_KEY, response.API_KEY), (key, key))
            self.assertEqual(request.VERSIONS, response.VERSIONS, key.name)
            self.assertEqual(request.FLEXIBLE, response.FLEXIBLE, key.name)

    def test_nothing_is_declared_above_the_highest_version(self) -> None:
        """A field that no version carries would be refused with an error nobody could act on."""
        for key in ApiKey:
            for cls in message_classes(key):
                for struct in _structs(cls):
                    for f in struct.FIELDS:
                        self.assertLessEqual(f.versions.lowest, cls.VERSIONS.highest, f"{struct.__name__}.{f.name}")

    def test_tags_are_declared_once_and_from_zero(self) -> None:
        for key in ApiKey:
            for cls in message_classes(key):
                for struct in _structs(cls):
                    tags = sorted(f.tag for f in struct.FIELDS if f.tag is not None)
                    self.assertEqual(tags, list(range(len(tags))), struct.__name__)

    def test_defaults_encode_in_every_version(self) -> None:
        for _, cls, version in all_messages():
            decoded, _ = cls.decode(cls().encode(version), version)
            self.assertEqual(decoded, cls(), f"{cls.__name__} v{version}")

    def test_versions_outside_the_range_are_refused(self) -> None:
        for key in ApiKey:
            for cls in message_classes(key):
                for version in (cls.VERSIONS.lowest - 1, cls.VERSIONS.highest + 1):
                    self.assertRaises(UnsupportedField, cls().encode, version)
                    self.assertRaises(UnsupportedField, cls.decode, b"", version)

    def test_a_field_that_the_version_lacks_is_refused_unless_ignorable(self) -> None:
        """The rule of Kafka's generated code, on every top-level field that comes or goes."""
        changed = {"bool": True, "string": "x", "bytes": b"x", "uuid": b"x" * 16, "float64": 2.5}
        refused = ignored = 0
        for _, cls, version in all_messages():
            for f in cls.FIELDS:
                if f.versions.has(version) or f.kind in ("array", "struct", "records"):
                    continue
                message = cls(**{f.name: not f.default if f.kind == "bool" else changed.get(f.kind, 77)})
                if f.ignorable:
                    decoded, _ = cls.decode(message.encode(version), version)
                    self.assertEqual(decoded, cls())
                    ignored += 1
                else:
                    error = self.assertRaises(UnsupportedField, message.encode, version)
                    self.assertIn(f"{cls.__name__} v{version}, {f.name}: ", str(error))
                    refused += 1
        self.assertGreater(refused, 50)
        self.assertGreater(ignored, 50)


def _structs(cls: type[Struct]) -> Iterator[type[Struct]]:
    yield cls
    for f in cls.FIELDS:
        if f.kind in ("array", "struct") and not isinstance(f.element, Field):
            yield from _structs(f.element)


class TruncationTests(SynchronousTestCase):
    """A message that ends too early is refused at every byte, in every version of every API."""

    LARGEST = 400  # bytes of the messages that are cut

    def test_cut_at_every_byte(self) -> None:
        rng = Random(3)
        cuts = 0
        for _, cls, version in all_messages():
            encodings = [random_message(cls, version, rng).encode(version) for _ in range(8)]
            encoded = max((e for e in encodings if len(e) <= self.LARGEST), key=len, default=cls().encode(version))
            view = memoryview(encoded)
            for size in range(len(encoded)):
                error = self.assertRaises(MalformedMessage, cls.decode, view[:size], version)
                self.assertIn(f"{cls.__name__} v{version}, ", str(error))
            cuts += len(encoded)
        self.assertGreater(cuts, 50_000)


class PrecodedTests(SynchronousTestCase):
    """Topics of a Metadata response may be given as the bytes that were kept from the last time."""

    def test_kept_bytes_equal_fresh_ones(self) -> None:
        partitions = [MetadataResponsePartition(partition_index=i, replica_nodes=[1], isr_nodes=[1]) for i in range(3)]
        topic = MetadataResponseTopic(name="orders", topic_id=b"i" * 16, partitions=partitions)
        other = MetadataResponseTopic(name="refunds")
        for version in range(14):
            kept = encode_struct(topic, version, MetadataResponse.is_flexible(version))
            self.assertEqual(
                MetadataResponse(topics=[kept, other, kept]).encode(version),
                MetadataResponse(topics=[topic, other, topic]).encode(version),
            )


class MemoryTests(SynchronousTestCase):
    """What a request can make the decoder build is in proportion to the bytes it brings."""

    LIMIT = 64  # bytes of objects for each byte of the message

    def test_arrays_of_the_smallest_elements(self) -> None:
        for key in ApiKey:
            request, _ = message_classes(key)
            version = request.VERSIONS.highest
            for path in _array_paths(request, version):
                encoded = _crowded(request, version, path, 500).encode(version)
                request.decode(encoded, version)  # compiles
                peak = min(_peak(partial(request.decode, encoded, version)) for _ in range(5))
                where = f"{request.__name__} v{version} {'.'.join(f.name for f in path)}"
                self.assertLess(peak / len(encoded), self.LIMIT, where)


def _peak(work: Callable[[], object]) -> int:
    """Bytes that are held at most while `work` goes on, by this thread and what others allocate meanwhile."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _array_paths(cls: type[Struct], version: int, before: tuple[Field, ...] = ()) -> Iterator[tuple[Field, ...]]:
    for f in cls.FIELDS:
        if not f.versions.has(version) or f.kind not in ("array", "struct"):
            continue
        if f.kind == "array":
            yield (*before, f)
        if not isinstance(f.element, Field):
            yield from _array_paths(f.element, version, (*before, f))


def _crowded(cls: type[Message], version: int, path: tuple[Field, ...], count: int) -> Message:
    """A message as small as can be, except for `count` elements in the array at `path`."""
    message = owner = _smallest(cls, version)
    for f in path:
        element = _smallest_value(f.element, version) if isinstance(f.element, Field) else _smallest(f.element, version)
        repeated = [element] * (count if f is path[-1] else 1)
        setattr(owner, f.name, repeated if f.kind == "array" else element)
        owner = element
    return message


def _smallest(cls: type[Struct], version: int) -> Any:
    present = [f for f in cls.FIELDS if f.versions.has(version) and f.tag is None]
    return cls(**{f.name: _smallest_value(f, version) for f in present})


def _smallest_value(f: Field, version: int) -> Any:
    if f.kind == "struct":
        return None if f.nullable.has(version) else _smallest(f.element, version)
    return {"array": [], "string": "", "bytes": b"", "records": b"", "uuid": bytes(16)}.get(f.kind, 0)
