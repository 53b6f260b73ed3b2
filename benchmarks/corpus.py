"""A corpus like logs, from a seed: what the benchmarks of search and of the native code run on, and the queries that they ask.

    python -m benchmarks.corpus [--messages 100000]      prints its measures, samples, and how often each query hits

30 % are lines of an access log, 40 % an application's log in JSON, 30 % events in JSON; 177 bytes in the mean; ten messages
a millisecond. Message `n` depends on the seed and `n` alone: they come in blocks of 1,000, each from a generator of its own, so
any part can be made by itself. Block `b` is one batch, for partition `b % PARTITIONS`.

A query is given in the search language and as a Python predicate over the message: `count` counts the truth.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise
from random import Random
from typing import NamedTuple

from chronik.native.tokens import tokens
from chronik.wire.records import Codec, Record, encode_batch

SEED = 4
BLOCK = 1000
PARTITIONS = 6
MEAN_BYTES = 177
START_MS = 1_795_755_600_000  # 2026-11-27 05:00 UTC
PER_MS = 10
RARE_EVERY, RARE_AT = 250_007, 4_321
"""The rare message is every so manieth."""
RARE = "LedgerChecksumMismatch"

_HOSTS = [f"web-{n:02}" for n in range(40)]
_SERVICES = ["checkout", "payments", "catalog", "search", "accounts", "shipping", "mail", "gateway", "ledger", "stock"]
_PATHS = [
    "/", "/health", "/login", "/cart", "/checkout", "/api/v1/orders/%d", "/api/v1/users/%d", "/api/v1/items/%d",
    "/static/js/app.%d.js", "/static/img/%d.png", "/search?q=%d", "/api/v2/stock/%d/reserve",
]  # fmt: skip
_METHODS = ["GET"] * 7 + ["POST"] * 2 + ["PUT"]
_STATUS = [200] * 86 + [304] * 5 + [404] * 4 + [500] * 2 + [502, 503, 201]
_AGENTS = [
    "Mozilla/5.0 (X11; Linux x86_64) Firefox/143.0", "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_6)", "curl/8.14.1",
    "okhttp/4.12.0", "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5)", "kube-probe/1.33",
]  # fmt: skip
_LEVELS = ["info"] * 78 + ["debug"] * 10 + ["warn"] * 7 + ["error"] * 5
_CALM = [
    "request served in %d ms", "cache hit for item %d", "order %d accepted", "session %d renewed", "job %d finished",
    "user %d signed in", "page rendered with %d rows", "message %d queued for delivery",
]  # fmt: skip
_BAD = [
    "connection reset by peer after %d ms", "timeout after %d ms on db primary", "payment %d declined by issuer",
    "retry %d of 5: upstream unavailable", "could not parse body: unexpected \\\"}\\\" at byte %d",
    "lock on row %d not acquired", "stock of item %d is negative: café crème", "slow query: %d ms",
]  # fmt: skip
_EVENTS = ["order_created", "order_paid", "item_viewed", "cart_changed", "signed_in", "signed_out", "mail_opened"]
_SOURCES = ["web", "mobile app", "partner feed", "newsletter", "returning visitor"]
_PLANS = ["free"] * 6 + ["pro"] * 3 + ["enterprise"]
_CURRENCIES = ["EUR"] * 5 + ["USD"] * 4 + ["CHF"]


class Message(NamedTuple):
    """One message: its time in ms, key and value."""

    timestamp: int
    key: bytes | None
    value: bytes


class Query(NamedTuple):
    """A query: what it stands for in the list of issue 4, in the search language, and what it matches."""

    name: str
    text: str
    matches: Callable[[Message], bool]


def messages(count: int, seed: int = SEED) -> Iterator[Message]:
    """The first `count` messages."""
    return islice((message for number in range(-(-count // BLOCK)) for message in block(number, seed)), count)


def block(number: int, seed: int = SEED) -> list[Message]:
    """The 1,000 messages from `number * BLOCK` on."""
    chance = Random(seed << 40 | number)
    first = number * BLOCK
    made: list[Message] = []
    clock = _Clock()
    random = chance.random
    for index in range(first, first + BLOCK):
        timestamp = START_MS + index // PER_MS
        kind = random()
        key: bytes | None = None
        if index % RARE_EVERY == RARE_AT:
            value = _rare(chance, clock.iso(timestamp), index)
        elif kind < 0.3:
            value = _access(chance, clock.common(timestamp))
        elif kind < 0.7:
            value = _application(chance, clock.iso(timestamp))
        else:
            user = int(random() * 200_000)
            key, value = b"user-%d" % user, _event(chance, user)
        made.append(Message(timestamp, key, value.encode()))
    return made


def batch(number: int, seed: int = SEED, codec: Codec = Codec.LZ4, base_offset: int = 0) -> bytes:
    """Block `number` as a batch, for partition `number % PARTITIONS`."""
    records = [
        Record(base_offset + place, message.timestamp, message.key, message.value)
        for place, message in enumerate(block(number, seed))
    ]
    return bytes(encode_batch(records, base_offset=base_offset, codec=codec))


class _Clock:
    """Times as text. Many messages share a millisecond, more a second."""

    def __init__(self) -> None:
        self._second = -1
        self._iso = self._common = ""

    def iso(self, timestamp: int) -> str:
        """As in JSON."""
        self._turn(timestamp // 1000)
        return f"{self._iso}.{timestamp % 1000:03}Z"

    def common(self, timestamp: int) -> str:
        """As in access logs."""
        self._turn(timestamp // 1000)
        return self._common

    def _turn(self, second: int) -> None:
        if second != self._second:
            self._second, parts = second, time.gmtime(second)
            self._iso = time.strftime("%Y-%m-%dT%H:%M:%S", parts)
            self._common = time.strftime("%d/%b/%Y:%H:%M:%S +0000", parts)


def _access(chance: Random, when: str) -> str:
    random = chance.random
    path = _PATHS[int(random() * random() * 12)]
    if "%" in path:
        path %= int(random() * 50_000)
    status, size = _STATUS[int(random() * 100)], int(random() ** 3 * 90_000)
    agent = _AGENTS[int(random() * 6)]
    address = f"10.{int(random() * 4)}.{int(random() * 256)}.{int(random() * 256)}"
    method = _METHODS[int(random() * 10)]
    host, took = _HOSTS[int(random() * 40)], random() ** 4
    return (
        f'{address} - - [{when}] "{method} {path} HTTP/1.1" {status} {size} '
        f'"https://shop.example/{path[1:6]}" "{agent}" {host} rt={took:.3f} id={chance.getrandbits(32):08x}'
    )


def _application(chance: Random, when: str) -> str:
    random = chance.random
    level = _LEVELS[int(random() * 100)]
    text = (_BAD if level in ("error", "warn") else _CALM)[int(random() * 8)] % int(random() * 30_000)
    service, host = _SERVICES[int(random() * 10)], _HOSTS[int(random() * 40)]
    return (
        f'{{"ts":"{when}","level":"{level}","service":"{service}","host":"{host}","thread":"worker-{int(random() * 16)}",'
        f'"logger":"shop.{service}.requests","trace_id":"{chance.getrandbits(64):016x}","msg":"{text}"}}'
    )


def _event(chance: Random, user: int) -> str:
    random = chance.random
    event, plan, currency = _EVENTS[int(random() * 7)], _PLANS[int(random() * 10)], _CURRENCIES[int(random() * 10)]
    return (
        f'{{"event":"{event}","user":{{"id":{user},"plan":"{plan}"}},"amount":{int(random() * 50_000) / 100},'
        f'"currency":"{currency}","items":{1 + int(random() * 9)},"session":"{chance.getrandbits(96):024x}",'
        f'"source":"{_SOURCES[int(random() * 5)]}"}}'
    )


def _rare(chance: Random, when: str, index: int) -> str:
    return (
        f'{{"ts":"{when}","level":"error","service":"ledger","host":"{_HOSTS[index % 40]}",'
        f'"trace_id":"{chance.getrandbits(64):016x}","msg":"{RARE} in account {index}"}}'
    )


# -- queries ------------------------------------------------------------------------------------------------------------


def _has(*words: str) -> Callable[[Message], bool]:
    wanted = [word.lower().encode() for word in words]

    def matches(message: Message) -> bool:
        value = message.value.lower()
        if not all(word in value for word in wanted):
            return False
        return set(wanted) <= set(tokens(value))

    return matches


def _has_phrase(first: str, second: str) -> Callable[[Message], bool]:
    pair, has = (first.encode(), second.encode()), _has(first, second)

    def matches(message: Message) -> bool:
        if not has(message):
            return False
        found = tokens(message.value)
        return pair in pairwise(found)

    return matches


def _has_pattern(pattern: str) -> Callable[[Message], bool]:
    search = re.compile(pattern.encode()).search
    return lambda message: search(message.value) is not None


def _between(first_ms: int, last_ms: int, also: Callable[[Message], bool]) -> Callable[[Message], bool]:
    return lambda message: START_MS + first_ms <= message.timestamp <= START_MS + last_ms and also(message)


QUERIES: Sequence[Query] = (
    Query("rare term", RARE.lower(), _has(RARE)),
    Query("error", "error", _has("error")),
    Query("and of three", "error AND payments AND timeout", _has("error", "payments", "timeout")),
    Query(
        "time range and term",
        f"timestamp:[{START_MS + 2_000} TO {START_MS + 9_000}] AND declined",
        _between(2_000, 9_000, _has("declined")),
    ),
    Query("phrase", '"connection reset"', _has_phrase("connection", "reset")),
    Query("regex with a literal", "/timeout.{1,20}db/", _has_pattern("timeout.{1,20}db")),
    Query("regex without a literal", "/ [0-9]{5} ms/", _has_pattern(" [0-9]{5} ms")),
)
"""Those of issue 4, row 5. The time range is of seconds that every corpus of 100,000 messages has."""


def count(total: int, seed: int = SEED, queries: Sequence[Query] = QUERIES) -> dict[str, int]:
    """How many of the first `total` messages each query matches."""
    hits = dict.fromkeys((query.name for query in queries), 0)
    for message in messages(total, seed):
        for query in queries:
            hits[query.name] += query.matches(message)
    return hits


def main() -> None:
    """Print measures of the corpus."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpus")
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    began, size = time.perf_counter(), 0
    for place, message in enumerate(messages(options.messages, options.seed)):
        size += len(message.value)
        if place < 6:
            print(message.timestamp, message.key, message.value.decode())
    took = time.perf_counter() - began
    print(f"{options.messages:,} messages, {size / options.messages:.1f} bytes in the mean, {took:.1f} s")
    for name, hits in count(options.messages, options.seed).items():
        print(f"{name}: {hits:,}")


if __name__ == "__main__":
    main()
