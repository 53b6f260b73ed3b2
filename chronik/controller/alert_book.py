"""The alerts of the metadata image: a part of its state, replayed as the rest is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chronik.controller.records import AlertDeleted, AlertSaved
from chronik.errors import CorruptLogError
from chronik.model import Alert, Topic, Uuid


class AlertBook:
    """All alerts by their names."""

    def __init__(self) -> None:
        self._by_name: dict[str, Alert] = {}

    def all(self) -> Sequence[Alert]:
        """In the order of their names."""
        return [alert for _, alert in sorted(self._by_name.items())]

    def over(self, search_id: Uuid) -> list[Alert]:
        """Those over one search."""
        return [alert for alert in self._by_name.values() if alert.search_id == search_id]

    def clear(self) -> None:
        """Forget all."""
        self._by_name.clear()

    def saved(self, record: AlertSaved, search: Topic) -> None:
        """Replay. Raises CorruptLogError for one that is there, or over what is no search."""
        if search.search is None:
            raise CorruptLogError(
                f"the metadata log saves alert {record.name!r} over {search.name!r}, which is no search"
            )
        if record.name in self._by_name:
            raise CorruptLogError(f"the metadata log saves alert {record.name!r} a second time")
        self._by_name[record.name] = Alert(
            record.alert_id, record.name, record.search_id, record.over, record.per_ms, record.to
        )

    def deleted(self, record: AlertDeleted) -> None:
        """Replay. Raises CorruptLogError for one that isn't there."""
        for name, alert in self._by_name.items():
            if alert.alert_id == record.alert_id:
                del self._by_name[name]
                return
        raise CorruptLogError(f"the metadata log deletes alert {record.alert_id.hex()}, which it never saved")

    def records(self) -> Iterable[AlertSaved]:
        """What makes them all anew."""
        for alert in self.all():
            yield AlertSaved(alert.alert_id, alert.name, alert.search_id, alert.over, alert.per_ms, alert.to)
