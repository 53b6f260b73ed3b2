"""AlterClientQuotas: set and remove quotas of users and client ids (KIP-546)."""

from __future__ import annotations

from itertools import chain

from chronik.controller.commands import AlterClientQuotas, QuotaAlteration
from chronik.controller.sizes import check_size
from chronik.errors import KafkaError
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.altering import CONFIG_TIMEOUT_MS
from chronik.listeners.handlers.proposing import PART, Proposing, in_parts
from chronik.steps import Steps, each
from chronik.wire.apis import ApiKey
from chronik.wire.messages.alter_client_quotas import (
    AlterClientQuotasRequest,
    AlterClientQuotasResponse,
    EntryData,
    EntryDataResult,
)


class AlterClientQuotasHandler:
    """Serves AlterClientQuotas by `proposing`."""

    api_key = ApiKey.ALTER_CLIENT_QUOTAS
    min_version = 0
    max_version = 1

    def __init__(self, proposing: Proposing) -> None:
        self._proposing = proposing

    async def handle(self, request: AlterClientQuotasRequest, context: RequestContext) -> AlterClientQuotasResponse:
        """A result for each entry, in the order of the request."""
        take = self._proposing.slices.take
        alterations = await take(each(request.entries, _alteration))
        check_size(AlterClientQuotas(tuple(alterations)), 0)
        by_entity = await take(_by_entity(alterations))
        commands = (
            AlterClientQuotas(tuple(alterations[place] for places in some for place in places), request.validate_only)
            for some in in_parts(by_entity, len)
        )
        errors = await self._proposing.each(commands, CONFIG_TIMEOUT_MS, [])
        by_place = dict(zip(chain.from_iterable(by_entity), errors, strict=True))
        entries = await take(each(enumerate(request.entries), lambda asked: _result(asked[1], by_place[asked[0]])))
        return AlterClientQuotasResponse(entries=entries)

    def refuse(
        self, request: AlterClientQuotasRequest, version: int, error: KafkaError
    ) -> Steps[AlterClientQuotasResponse]:
        """`error` for every entry."""
        entries = yield from each(request.entries, lambda entry: _result(entry, error))
        return AlterClientQuotasResponse(entries=entries)


def _by_entity(alterations: list[QuotaAlteration]) -> Steps[list[list[int]]]:
    """Their places, with those that are about the same entity together: one that is there twice is refused for it."""
    by_entity: dict[object, list[list[int]]] = {}
    for place, alteration in enumerate(alterations):
        groups = by_entity.setdefault(tuple(sorted(dict(alteration.entity).items(), key=repr)), [[]])
        if len(groups[-1]) == PART:
            groups.append([groups[-1].pop()])  # two of each entity are enough for that
        groups[-1].append(place)
        yield
    return [group for groups in by_entity.values() for group in groups]


def _alteration(entry: EntryData) -> QuotaAlteration:
    return QuotaAlteration(
        tuple((each.entity_type, each.entity_name) for each in entry.entity),
        tuple((op.key, None if op.remove else op.value) for op in entry.ops),
    )


def _result(entry: EntryData, error: KafkaError | None) -> EntryDataResult:
    if error is None:
        return EntryDataResult(entity=entry.entity, error_message=None)
    return EntryDataResult(entity=entry.entity, error_code=error.code, error_message=error.message)
