"""The controller's decisions about client quotas: which changes stand, as records.

A quota that nothing here enforces is refused: a client that is told of one relies on it. Rules: KIP-546 (the API), KIP-124,
KIP-599 (mutations).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address

from chronik.controller.commands import AlterClientQuotas, QuotaAlteration
from chronik.controller.image import MetadataImage
from chronik.controller.records import ClientQuotaChanged
from chronik.errors import ErrorCode, KafkaError
from chronik.model import (
    CLIENT_ID,
    CONNECTION_CREATION_RATE,
    CONSUMER_BYTE_RATE,
    CONTROLLER_MUTATION_RATE,
    IP,
    PRODUCER_BYTE_RATE,
    REQUEST_PERCENTAGE,
    USER,
    QuotaEntity,
)

_MOST = {PRODUCER_BYTE_RATE: 2.0**63, CONSUMER_BYTE_RATE: 2.0**63, CONNECTION_CREATION_RATE: 2.0**31 - 1}
"""The quotas that are whole numbers, as in Kafka, and how large they can be."""
_ENFORCED = frozenset({PRODUCER_BYTE_RATE, CONSUMER_BYTE_RATE, REQUEST_PERCENTAGE, CONTROLLER_MUTATION_RATE})
_OF_ADDRESSES = frozenset({CONNECTION_CREATION_RATE})
_LONGEST_NAME = 1000


def decide_alter_client_quotas(
    image: MetadataImage, command: AlterClientQuotas
) -> tuple[Sequence[ClientQuotaChanged], tuple[KafkaError | None, ...]]:
    """The records and the answers of a change of quotas."""
    times = Counter(tuple(sorted(dict(each.entity).items())) for each in command.alterations)
    records: list[ClientQuotaChanged] = []
    results: list[KafkaError | None] = []
    for alteration in command.alterations:
        try:
            entity = _entity(alteration)
            if times[entity] > 1:
                raise _invalid("the entity is in the request more than once")
            changes = _changes(alteration)
        except KafkaError as refusal:
            results.append(refusal)
            continue
        current = image.quotas().get(entity, {})
        changes = {key: value for key, value in changes.items() if current.get(key) != value}
        if changes:
            records.append(ClientQuotaChanged(entity, changes))
        results.append(None)
    return (() if command.validate_only else records), tuple(results)


def _entity(alteration: QuotaAlteration) -> QuotaEntity:
    """Whom it is about, in the one form that is stored. Raises KafkaError(INVALID_REQUEST)."""
    names = dict(alteration.entity)
    if not names:
        raise _invalid("a quota is for a user, a client id or an address: none is named")
    for kind, name in names.items():
        if kind not in (USER, CLIENT_ID, IP):
            raise _invalid(f"there are no quotas for entities of kind {kind[:80]!r}: user, client-id and ip exist")
        if name is not None and not 0 < len(name) <= _LONGEST_NAME:
            raise _invalid(f"the name of a {kind} has 1 to {_LONGEST_NAME} characters, not {len(name)}")
    if IP in names and len(names) > 1:
        raise _invalid("an address cannot be combined with a user or a client id")
    if names.get(IP) is not None:
        _check_address(str(names[IP]))
    return tuple(sorted(names.items()))


def _check_address(name: str) -> None:
    try:
        ip_address(name)
    except ValueError:
        raise _invalid(f"{name[:80]!r} is no IP address; names of hosts are not looked up") from None


def _changes(alteration: QuotaAlteration) -> dict[str, float | None]:
    is_address = any(kind == IP for kind, _ in alteration.entity)
    if len({key for key, _ in alteration.changes}) != len(alteration.changes):
        raise _invalid("a quota is changed twice in one request")
    for key, value in alteration.changes:
        if value is not None:
            _check(key, value, is_address)
    return dict(alteration.changes)


def _check(key: str, value: float, is_address: bool) -> None:
    known = _OF_ADDRESSES if is_address else _ENFORCED
    if key not in known:
        raise _invalid(
            f"there is no quota {key[:80]!r} for {'an address' if is_address else 'users and client ids'}: "
            f"{', '.join(sorted(known))} exist"
        )
    if not value > 0 or math.isinf(value):
        raise _invalid(f"quota {key} must be a number greater than 0, not {value}")
    if key in _MOST:
        if value > _MOST[key]:
            raise _invalid(f"quota {key} is at most {_MOST[key]:.0f}, not {value}")
        if value % 1.0 > 1e-6:
            raise _invalid(f"quota {key} must be a whole number, not {value}")


def _invalid(text: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_REQUEST, text)
