"""The part of the REST API that is about alerts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from chronik.controller.commands import DeleteAlert, SaveAlert
from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata
from chronik.listeners import admin_schema as schema
from chronik.listeners.admin_http import read_json
from chronik.listeners.http import Refusal
from chronik.listeners.paging import page_of
from chronik.model import Alert, Topic
from chronik.search.alerting import Alerting

_DRY_SECONDS = 20.0
_MOST_WINDOWS = 10_000


class AlertAdministration:
    """The operations, each a method named as in `OPERATIONS`.

    `decide` carries out a command of the controller. `alerting` is None where this node doesn't search.
    """

    def __init__(
        self, metadata: IClusterMetadata, decide: Callable[[object], Awaitable[Any]], alerting: Alerting | None
    ) -> None:
        self._metadata = metadata
        self._decide = decide
        self._alerting = alerting

    def list_alerts(self, request: Any) -> schema.AlertList:
        """All alerts, paged."""
        page, following = page_of(request, self._metadata.alerts(), lambda alert: alert.name)
        return schema.AlertList([self._detail(alert) for alert in page], following)

    async def save_alert(self, request: Any) -> schema.Alert:
        """Save what the body says; the alert."""
        body = read_json(request, schema.NewAlert)
        self._expect_search()
        alert = await self._decide(SaveAlert(body.name, body.search, body.over, body.per_ms, body.to))
        request.setHeader("location", f"/v1/alerts/{alert.name}")
        return self._detail(alert)

    def get_alert(self, request: Any, name: str) -> schema.Alert:
        """One alert."""
        for alert in self._metadata.alerts():
            if alert.name == name:
                return self._detail(alert)
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"alert {name[:249]!r} does not exist")

    async def delete_alert(self, request: Any, name: str) -> None:
        """Delete an alert. What it has written stays."""
        await self._decide(DeleteAlert(name))

    async def dry_run_alert(self, request: Any) -> schema.DryRun:
        """What an alert would have said over the past."""
        body = read_json(request, schema.NewDryRun)
        alerting = self._expect_search()
        search = self._metadata.topic(body.search)
        if search is None or search.search is None:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no saved search {body.search[:249]!r}")
        found = await alerting.dry_run(search, body.over, body.per_ms, body.from_ms, body.to_ms, _DRY_SECONDS)
        return schema.DryRun(
            [schema.Window(begin, begin + body.per_ms, count) for begin, count in found.windows[:_MOST_WINDOWS]],
            len(found.windows),
            found.matches,
            found.complete,
            {str(partition): offset for partition, offset in found.reached.items()},
        )

    def _expect_search(self) -> Alerting:
        if self._alerting is None:
            raise Refusal(503, "this node doesn't search: its search_workers is 0")
        return self._alerting

    def _detail(self, alert: Alert) -> schema.Alert:
        search = self._metadata.topic_by_id(alert.search_id)
        assert isinstance(search, Topic)  # it can't be deleted while this is there
        return schema.Alert(alert.name, search.name, alert.over, alert.per_ms, alert.to)
