"""Client quotas: set, described by filters, removed, and refused."""

from __future__ import annotations

import time
from typing import Any

from chronik.wire.apis import ApiKey
from tests.differential.scenarios import create, scenario, versions
from tests.differential.session import CLIENT_ID, Session

EXACT, DEFAULT, ANY = 0, 1, 2


def _entry(entity: dict[str, str | None], **values: float | None) -> dict[str, Any]:
    return {
        "entity": [{"entity_type": kind, "entity_name": name} for kind, name in entity.items()],
        "ops": [{"key": key, "value": value or 0.0, "remove": value is None} for key, value in values.items()],
    }


def _alter(s: Session, label: str, *entries: dict[str, Any], version: int = 1, dry: bool = False) -> None:
    s.ask(label, ApiKey.ALTER_CLIENT_QUOTAS, version, {"entries": list(entries), "validate_only": dry})


def _filter(*components: tuple[str, int, str | None], strict: bool = False) -> dict[str, Any]:
    return {
        "components": [{"entity_type": kind, "match_type": how, "match": name} for kind, how, name in components],
        "strict": strict,
    }


def _settled(s: Session, count: int) -> None:
    """Until so many entities of this scenario have quotas: Kafka applies them in its own time."""
    s.wait_until(ApiKey.DESCRIBE_CLIENT_QUOTAS, 1, _filter(), lambda answer: len(answer.entries or ()) == count)


@scenario
def set_and_describe_quotas(s: Session) -> None:
    for version in versions(ApiKey.DESCRIBE_CLIENT_QUOTAS):
        s.ask("none", ApiKey.DESCRIBE_CLIENT_QUOTAS, version, _filter())
    for version in versions(ApiKey.ALTER_CLIENT_QUOTAS):
        _alter(s, "set", _entry({"user": "quota-u"}, producer_byte_rate=1e9, consumer_byte_rate=2e9), version=version)
    _alter(
        s,
        "several",
        _entry({"user": "quota-u", "client-id": "quota-c"}, request_percentage=99.5),
        _entry({"user": "quota-u", "client-id": None}, producer_byte_rate=3e9),
        _entry({"client-id": "quota-c"}, consumer_byte_rate=4e9),
    )
    _alter(s, "dry run", _entry({"client-id": "quota-d"}, consumer_byte_rate=5e9), dry=True)
    _settled(s, 4)
    for version in versions(ApiKey.DESCRIBE_CLIENT_QUOTAS):
        s.ask("all", ApiKey.DESCRIBE_CLIENT_QUOTAS, version, _filter())
    for label, asked in {
        "all, strictly": _filter(strict=True),
        "a user": _filter(("user", EXACT, "quota-u")),
        "a user, strictly": _filter(("user", EXACT, "quota-u"), strict=True),
        "any user": _filter(("user", ANY, None)),
        "the default user": _filter(("user", DEFAULT, None)),
        "the default client of a user": _filter(("user", EXACT, "quota-u"), ("client-id", DEFAULT, None)),
        "any client, strictly": _filter(("client-id", ANY, None), strict=True),
        "nobody": _filter(("user", EXACT, "nobody")),
        "any address": _filter(("ip", ANY, None)),
        "no kind": _filter(("", EXACT, "x")),
        "unknown kind": _filter(("group", EXACT, "x")),
        "a kind twice": _filter(("user", EXACT, "x"), ("user", ANY, None)),
        "exact without a name": _filter(("user", EXACT, None)),
        "default with a name": _filter(("user", DEFAULT, "x")),
        "any with a name": _filter(("user", ANY, "x")),
        "match type 3": _filter(("user", 3, None)),
        "address and user": _filter(("ip", ANY, None), ("user", ANY, None)),
    }.items():
        s.ask(label, ApiKey.DESCRIBE_CLIENT_QUOTAS, 1, asked)
    _alter(s, "change and remove", _entry({"user": "quota-u"}, producer_byte_rate=7e9, consumer_byte_rate=None))
    _alter(s, "remove what is not there", _entry({"user": "quota-v"}, producer_byte_rate=None))
    _alter(s, "remove", _entry({"client-id": "quota-c"}, consumer_byte_rate=None))
    _settled(s, 3)
    s.ask("what is left", ApiKey.DESCRIBE_CLIENT_QUOTAS, 1, _filter())
    _alter(
        s,
        "remove all",
        _entry({"user": "quota-u"}, producer_byte_rate=None),
        _entry({"user": "quota-u", "client-id": "quota-c"}, request_percentage=None),
        _entry({"user": "quota-u", "client-id": None}, producer_byte_rate=None),
    )
    _settled(s, 0)


@scenario
def refused_quotas(s: Session) -> None:
    for label, entity, values in (
        ("nobody", {}, {"producer_byte_rate": 1}),
        ("an unknown kind", {"group": "g"}, {"producer_byte_rate": 1}),
        ("an empty name", {"user": ""}, {"producer_byte_rate": 1}),
        ("address and user", {"ip": "127.0.0.1", "user": "u"}, {"connection_creation_rate": 1}),
        ("another quota for an address", {"ip": "127.0.0.1"}, {"producer_byte_rate": 1}),
        ("an address's quota for a user", {"user": "u"}, {"connection_creation_rate": 1}),
        ("an unknown quota", {"user": "u"}, {"bytes": 1}),
        ("zero", {"user": "u"}, {"producer_byte_rate": 0}),
        ("less than zero", {"user": "u"}, {"request_percentage": -1}),
        ("part of a byte", {"user": "u"}, {"producer_byte_rate": 1.5}),
        ("more than a long", {"user": "u"}, {"producer_byte_rate": 1e30}),
    ):
        _alter(s, label, _entry(entity, **values))  # type: ignore[arg-type]
    _alter(s, "removing an unknown one", _entry({"user": "u"}, bytes=None))
    _alter(s, "a good and a bad one", _entry({"user": "u"}, producer_byte_rate=1, bytes=1))
    _alter(s, "nothing")
    s.ask("nothing came of it", ApiKey.DESCRIBE_CLIENT_QUOTAS, 1, _filter())


@scenario
def other_quotas(s: Session) -> None:
    """Of connections and of mutations, too large to be felt."""
    _alter(s, "mutations", _entry({"user": "quota-m"}, controller_mutation_rate=1e6))
    _alter(s, "part of a mutation", _entry({"user": "quota-m"}, controller_mutation_rate=0.5))
    _alter(s, "no mutation", _entry({"user": "quota-m"}, controller_mutation_rate=0))
    _alter(s, "connections", _entry({"ip": "127.9.9.9"}, connection_creation_rate=1e6))
    _alter(s, "mutations, removed", _entry({"user": "quota-m"}, controller_mutation_rate=None))
    _alter(s, "connections, removed", _entry({"ip": "127.9.9.9"}, connection_creation_rate=None))


class _Mutations:
    """Requests that create and delete, each on a connection of its own: one that is throttled is not read for long."""

    def __init__(self, s: Session) -> None:
        self.s, self.count = s, 0

    def ask(self, label: str, key: ApiKey, version: int, body: dict[str, Any]) -> None:
        self.count += 1
        answer = self.s.ask(label, key, version, {"timeout_ms": 10_000, **body}, on=f"mutation-{self.count}")
        if answer is not None:
            self.s.note(f"{label} v{version}, throttled", {"pause": answer.throttle_time_ms > 0})

    def create(self, label: str, version: int, *topics: tuple[str, int], dry: bool = False) -> None:
        listed = [{"name": name, "num_partitions": count, "replication_factor": 1} for name, count in topics]
        self.ask(label, ApiKey.CREATE_TOPICS, version, {"topics": listed, "validate_only": dry})

    def grow(self, label: str, version: int, name: str, count: int) -> None:
        topics = [{"name": name, "count": count, "assignments": None}]
        self.ask(label, ApiKey.CREATE_PARTITIONS, version, {"topics": topics})

    def delete(self, label: str, version: int, *names: str) -> None:
        body = {"topic_names": list(names), "topics": [{"name": name} for name in names]}
        self.ask(label, ApiKey.DELETE_TOPICS, version, body)


@scenario
def mutation_quota(s: Session) -> None:
    """One partition in five seconds, of which eleven seconds' worth are saved up: two. Then hardly anything is allowed."""
    for name in ("unmutated", "deleted-of-old", "deleted-of-new"):
        create(s, name, 2)
    who = {"client-id": CLIENT_ID}
    _alter(s, "set", _entry(who, controller_mutation_rate=0.2))
    s.wait_until(ApiKey.DESCRIBE_CLIENT_QUOTAS, 1, _filter(("client-id", EXACT, CLIENT_ID)),
                 lambda answer: len(answer.entries or ()) == 1)  # fmt: skip
    time.sleep(0.5)  # until it is enforced as well
    mutations = _Mutations(s)
    mutations.create("much at once", 7, ("mutated-much", 12))
    for version in (7, 6):
        mutations.create("nothing is left", version, ("mutated-a", 1), ("mutated-b", 1))
    mutations.create("a topic that is there", 7, ("unmutated", 1))
    mutations.create("a bad name", 7, ("bad/name", 1))
    mutations.create("a dry run", 7, ("mutated-a", 1), dry=True)
    mutations.grow("more partitions", 3, "unmutated", 3)
    mutations.grow("fewer partitions", 3, "unmutated", 1)
    mutations.delete("new clients delete", 6, "deleted-of-new")
    mutations.delete("new clients delete", 5, "deleted-of-new")
    mutations.delete("what is not there", 6, "deleted-not")
    topics = {"topics": [{"name": "mutated-of-itself"}], "allow_auto_topic_creation": True}
    for number in (1, 2):
        s.ask(f"a topic of itself, {number}", ApiKey.METADATA, 9, topics)
    mutations.create("an old client", 5, ("mutated-c", 1), ("mutated-d", 1))
    mutations.create("an old client, badly", 5, ("unmutated", 1))
    mutations.grow("an old client grows", 2, "unmutated", 3)
    mutations.delete("an old client deletes", 4, "deleted-of-old")
    mutations.create("a new client after that", 7, ("mutated-e", 1))
    _alter(s, "removed", _entry(who, controller_mutation_rate=None))
    s.wait_until(ApiKey.DESCRIBE_CLIENT_QUOTAS, 1, _filter(("client-id", EXACT, CLIENT_ID)),
                 lambda answer: not answer.entries)  # fmt: skip
    time.sleep(0.5)
    mutations.create("without a quota", 7, ("mutated-f", 1))
