"""The controller's decisions about alerts: which may be saved. What they do is `chronik.search.alerting`'s."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chronik.controller.commands import DeleteAlert, SaveAlert
from chronik.controller.image import MetadataImage
from chronik.controller.records import AlertDeleted, AlertSaved
from chronik.errors import ErrorCode, KafkaError
from chronik.model import Alert, Topic, Uuid, topic_name_fault

MAX_ALERTS = 100
"""In all: each is looked after once a second."""
MIN_PER_MS, MAX_PER_MS = 1000, 31 * 86_400_000
_MAX_OVER = 2**53


def decide_save_alert(
    image: MetadataImage, command: SaveAlert, new_id: Callable[[], Uuid]
) -> tuple[Sequence[AlertSaved], Alert]:
    """The record of a new alert, and the alert. Raises KafkaError."""
    fault = topic_name_fault(command.name)
    if fault is not None:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"alerts are named as topics are: {fault}")
    alerts = image.alerts()
    if any(alert.name == command.name for alert in alerts):
        raise KafkaError(ErrorCode.TOPIC_ALREADY_EXISTS, f"alert {command.name!r} already exists")
    if len(alerts) >= MAX_ALERTS:
        raise KafkaError(ErrorCode.POLICY_VIOLATION, f"there are {MAX_ALERTS} alerts, the most there may be")
    if not 0 <= command.over <= _MAX_OVER:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"a count to be over is 0 to 2**53, not {command.over}")
    if not MIN_PER_MS <= command.per_ms <= MAX_PER_MS:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"a window has {MIN_PER_MS} ms to 31 days, not {command.per_ms} ms")
    search = image.topic(command.search)
    if search is None or search.search is None:
        raise KafkaError(
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no saved search {command.search[:249]!r}: save it first"
        )
    _check_target(image, command.to, search.search.source_id)
    record = AlertSaved(new_id(), command.name, search.topic_id, command.over, command.per_ms, command.to)
    alert = Alert(record.alert_id, record.name, record.search_id, record.over, record.per_ms, record.to)
    return (record,), alert


def _check_target(image: MetadataImage, name: str, source_id: Uuid) -> Topic:
    target = image.topic(name)
    if target is None:
        raise KafkaError(
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {name[:249]!r} to write to: create it first"
        )
    if target.internal or target.search is not None:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"nothing can be written to topic {name!r}")
    if target.topic_id == source_id:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST,
            f"the alert would be among the records of {name!r} that are searched: choose another topic",
        )
    return target


def decide_delete_alert(image: MetadataImage, command: DeleteAlert) -> tuple[Sequence[AlertDeleted], Alert]:
    """The record that deletes an alert, and the alert. Raises KafkaError."""
    for alert in image.alerts():
        if alert.name == command.name:
            return (AlertDeleted(alert.alert_id),), alert
    raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"alert {command.name[:249]!r} does not exist")
