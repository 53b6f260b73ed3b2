"""DescribeClientQuotas: the quotas of the entities that match a filter (KIP-546)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from chronik.errors import ErrorCode, KafkaError
from chronik.listeners.context import RequestContext
from chronik.model import CLIENT_ID, IP, USER, QuotaEntity
from chronik.wire.apis import ApiKey
from chronik.wire.messages.describe_client_quotas import (
    ComponentData,
    DescribeClientQuotasRequest,
    DescribeClientQuotasResponse,
    EntityData,
    EntryData,
    ValueData,
)

_EXACT, _DEFAULT, _ANY = 0, 1, 2


class DescribeClientQuotasHandler:
    """Serves DescribeClientQuotas from what `quotas` returns."""

    api_key = ApiKey.DESCRIBE_CLIENT_QUOTAS
    min_version = 0
    max_version = 1

    def __init__(self, quotas: Callable[[], Mapping[QuotaEntity, Mapping[str, float]]]) -> None:
        self._quotas = quotas

    def handle(self, request: DescribeClientQuotasRequest, context: RequestContext) -> DescribeClientQuotasResponse:
        """All entities that fit every component; with `strict`, only those that consist of nothing else."""
        names: dict[str, str | None] = {}
        kinds: set[str] = set()
        for component in request.components:
            _check(component, names.keys() | kinds)
            if component.match_type == _ANY:
                kinds.add(component.entity_type)
            else:
                names[component.entity_type] = component.match
        asked = names.keys() | kinds
        if IP in asked and len(asked) > 1:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "an address is filtered for alone, without user or client id")
        return DescribeClientQuotasResponse(
            entries=[
                _entry(entity, values)
                for entity, values in sorted(self._quotas().items(), key=repr)
                if _fits(dict(entity), names, kinds, request.strict)
            ]
        )

    def refuse(
        self, request: DescribeClientQuotasRequest, version: int, error: KafkaError
    ) -> DescribeClientQuotasResponse:
        """`error`, and no entries."""
        return DescribeClientQuotasResponse(error_code=error.code, error_message=error.message, entries=None)


def _check(component: ComponentData, before: set[str]) -> None:
    kind, how = component.entity_type, component.match_type
    if not kind or kind in before:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST,
            f"entity type {kind!r} is filtered for twice" if kind else "an entity type is empty",
        )
    if kind not in (USER, CLIENT_ID, IP):
        raise KafkaError(
            ErrorCode.UNSUPPORTED_VERSION, f"entity type {kind[:80]!r} is unknown: user, client-id and ip exist"
        )
    if how not in (_EXACT, _DEFAULT, _ANY):
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"match type {how} is unknown: 0 to 2 exist")
    if (how == _EXACT) != (component.match is not None):
        raise KafkaError(ErrorCode.INVALID_REQUEST, "a name to match goes with match type 0, and with no other")


def _fits(entity: dict[str, str | None], names: dict[str, str | None], kinds: set[str], strict: bool) -> bool:
    if strict and len(entity) != len(names) + len(kinds):
        return False
    return kinds <= entity.keys() and all(kind in entity and entity[kind] == name for kind, name in names.items())


def _entry(entity: QuotaEntity, values: Mapping[str, float]) -> EntryData:
    return EntryData(
        entity=[EntityData(entity_type=kind, entity_name=name) for kind, name in entity],
        values=[ValueData(key=key, value=value) for key, value in sorted(values.items())],
    )
