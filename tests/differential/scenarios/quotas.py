"""Client quotas: set, described by filters, removed, and refused."""

from __future__ import annotations

from typing import Any

from chronik.wire.apis import ApiKey
from tests.differential.scenarios import create, scenario, versions
from tests.differential.session import Session

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
def quotas_not_enforced(s: Session) -> None:
    create(s, "quotas-later")
    _alter(s, "mutations", _entry({"user": "quota-m"}, controller_mutation_rate=1e6))
    _alter(s, "connections", _entry({"ip": "127.9.9.9"}, connection_creation_rate=1e6))
    _alter(s, "mutations, removed", _entry({"user": "quota-m"}, controller_mutation_rate=None))
    _alter(s, "connections, removed", _entry({"ip": "127.9.9.9"}, connection_creation_rate=None))
