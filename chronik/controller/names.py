"""Which names new topics may have."""

from __future__ import annotations

from chronik.controller.image import MetadataImage
from chronik.errors import ErrorCode, KafkaError
from chronik.model import topic_name_fault

METADATA_TOPIC = "__cluster_metadata"
"""The name of Kafka's own metadata log: it can't be a topic."""


def check_new_name(image: MetadataImage, name: str) -> None:
    """Raises KafkaError for a name that is taken, reserved, malformed, or one with another in the names of metrics."""
    if name == METADATA_TOPIC:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"topic {name!r} cannot be created: the name is reserved")
    if image.topic(name) is not None:
        raise KafkaError(ErrorCode.TOPIC_ALREADY_EXISTS, f"topic {name!r} already exists")
    fault = topic_name_fault(name)
    if fault is not None:
        raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, fault)
    other = image.colliding(name)
    if other is not None:
        raise KafkaError(
            ErrorCode.INVALID_TOPIC_EXCEPTION,
            f"topic {name!r} collides with topic {other!r}: '.' and '_' are the same in the names of metrics",
        )
