"""Client quotas: listed and changed, with plain values (KIP-546)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chronik.client.cluster import ClusterClient
from chronik.client.errors import error_code
from chronik.errors import KafkaError
from chronik.wire.messages import alter_client_quotas as alter
from chronik.wire.messages.describe_client_quotas import DescribeClientQuotasRequest

Entity = Mapping[str, str | None]
"""Whom a quota is for: names by kind (user, client-id, ip); None for the default of its kind."""


@dataclass(frozen=True, slots=True)
class QuotaView:
    """The quotas of one entity."""

    entity: dict[str, str | None]
    quotas: dict[str, float]


async def list_quotas(cluster: ClusterClient) -> list[QuotaView]:
    """All quotas, in the order of their entities. Raises KafkaError."""
    response = await cluster.send_to_any(DescribeClientQuotasRequest())
    if response.error_code:
        raise KafkaError(error_code(response.error_code), response.error_message or "client quotas")
    views = [
        QuotaView(
            {
                part.entity_type: part.entity_name
                for part in sorted(entry.entity, key=lambda part: str(part.entity_type))
            },
            {value.key: value.value for value in sorted(entry.values, key=lambda value: str(value.key))},
        )
        for entry in response.entries or ()
    ]
    return sorted(views, key=lambda view: repr(view.entity))


async def alter_quotas(cluster: ClusterClient, entity: Entity, changes: Mapping[str, float | None]) -> None:
    """Set quotas of `entity`, or remove those whose value is None. Raises KafkaError with the broker's reason."""
    entry = alter.EntryData(
        entity=[alter.EntityData(entity_type=kind, entity_name=name) for kind, name in entity.items()],
        ops=[alter.OpData(key=key, value=value or 0.0, remove=value is None) for key, value in changes.items()],
    )
    response = await cluster.send_to_controller(alter.AlterClientQuotasRequest(entries=[entry]))
    (result,) = response.entries
    if result.error_code:
        raise KafkaError(error_code(result.error_code), result.error_message or "client quotas")
