"""Every client produces and consumes real log files with every codec: every line back, in order, once."""

from __future__ import annotations

import itertools
import unittest
from collections import defaultdict
from collections.abc import Callable

from confluent_kafka.admin import AdminClient, NewTopic

from tests.compat.clients import CLIENTS, CODECS, Client, Pair, Record
from tests.compat.node import WHOLE, BrokerTestCase, log_files

_numbers = itertools.count()


class Clients(BrokerTestCase):
    """One test a client and codec; in the slice a client takes one codec with its own topic, in turn."""

    def create(self, stem: str, partitions: int) -> str:
        """A new topic."""
        topic = f"{stem}-{next(_numbers)}"
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(30)
        return topic

    def check_in_order(self, found: list[Record], lines: list[bytes]) -> None:
        """One partition: the lines as they were, offsets from 0 without a gap."""
        self.assertEqual(len(found), len(lines))
        self.assertEqual([value for _, _, _, value in found], lines)
        self.assertEqual([offset for _, offset, _, _ in found], list(range(len(lines))))

    def check_keyed(self, found: list[Record], pairs: list[Pair], partitions: int) -> None:
        """Several partitions: every key in one partition, each key's values in order, offsets without gaps."""
        self.assertEqual(len(found), len(pairs))
        sent, came = defaultdict(list), defaultdict(list)
        homes, offsets = defaultdict(set), defaultdict(list)
        for key, value in pairs:
            sent[key].append(value)
        for partition, offset, key, value in found:
            came[key].append(value)
            homes[key].add(partition)
            offsets[partition].append(offset)
        self.assertEqual(came, sent)
        self.assertTrue(all(len(home) == 1 for home in homes.values()))
        self.assertGreater(len(offsets), 1, "the keys reached one partition only")
        for partition, seen in offsets.items():
            self.assertEqual(seen, list(range(len(seen))), f"partition {partition}")

    def exchange(self, client: Client, reader: Client, codec: str) -> None:
        """`client` produces every file, `reader` consumes it: to one partition without keys, and keyed over three."""
        for path in log_files():
            with self.subTest(file=path.name):
                lines = path.read_bytes().splitlines()
                topic = self.create(f"{client.name}-{codec}", 1)
                client.produce(self.bootstrap, topic, [(None, line) for line in lines], codec)
                self.check_in_order(reader.consume(self.bootstrap, topic, len(lines)), lines)
        pairs: list[Pair] = [(b"key-%d" % (n % 17), line) for n, line in enumerate(lines[:600])]
        topic = self.create(f"{client.name}-{codec}-keyed", 3)
        client.produce(self.bootstrap, topic, pairs, codec)
        self.check_keyed(reader.consume(self.bootstrap, topic, len(pairs)), pairs, 3)


def _test(client: Client, reader: Client, codec: str) -> Callable[[Clients], None]:
    def test(self: Clients) -> None:
        self.exchange(client, reader, codec)

    test.__doc__ = f"{client.name} produces with {codec}, {reader.name} consumes."
    return test


def _word(name: str) -> str:
    return name.replace("-", "_")


for _index, _client in enumerate(CLIENTS):
    for _place, _codec in enumerate(CODECS):
        if WHOLE or _place == _index % len(CODECS):
            setattr(Clients, f"test_{_word(_client.name)}_{_codec}", _test(_client, _client, _codec))
if WHOLE:  # what one client wrote, another reads
    for _index, _client in enumerate(CLIENTS):
        for _step, _codec in enumerate(CODECS, 1):
            _reader = CLIENTS[(_index + _step) % len(CLIENTS)]
            setattr(
                Clients,
                f"test_{_word(_client.name)}_to_{_word(_reader.name)}_{_codec}",
                _test(_client, _reader, _codec),
            )


if __name__ == "__main__":
    unittest.main()
