"""AlterClientQuotas: set and remove quotas of users and client ids (KIP-546)."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from chronik.controller.commands import AlterClientQuotas, QuotaAlteration
from chronik.errors import KafkaError
from chronik.interfaces import IController
from chronik.listeners.context import RequestContext
from chronik.listeners.handlers.altering import CONFIG_TIMEOUT_MS
from chronik.listeners.handlers.proposing import propose
from chronik.wire.apis import ApiKey
from chronik.wire.messages.alter_client_quotas import (
    AlterClientQuotasRequest,
    AlterClientQuotasResponse,
    EntryData,
    EntryDataResult,
)


class AlterClientQuotasHandler:
    """Serves AlterClientQuotas through `controller`."""

    api_key = ApiKey.ALTER_CLIENT_QUOTAS
    min_version = 0
    max_version = 1

    def __init__(self, controller: IController, clock: IReactorTime) -> None:
        self._controller = controller
        self._clock = clock

    async def handle(self, request: AlterClientQuotasRequest, context: RequestContext) -> AlterClientQuotasResponse:
        """A result for each entry, in the order of the request."""
        command = AlterClientQuotas(tuple(map(_alteration, request.entries)), request.validate_only)
        errors = await propose(self._controller, command, CONFIG_TIMEOUT_MS, self._clock)
        return AlterClientQuotasResponse(
            entries=[_result(entry, error) for entry, error in zip(request.entries, errors, strict=True)]
        )

    def refuse(self, request: AlterClientQuotasRequest, version: int, error: KafkaError) -> AlterClientQuotasResponse:
        """`error` for every entry."""
        return AlterClientQuotasResponse(entries=[_result(entry, error) for entry in request.entries])


def _alteration(entry: EntryData) -> QuotaAlteration:
    return QuotaAlteration(
        tuple((each.entity_type, each.entity_name) for each in entry.entity),
        tuple((op.key, None if op.remove else op.value) for op in entry.ops),
    )


def _result(entry: EntryData, error: KafkaError | None) -> EntryDataResult:
    if error is None:
        return EntryDataResult(entity=entry.entity, error_message=None)
    return EntryDataResult(entity=entry.entity, error_code=error.code, error_message=error.message)
