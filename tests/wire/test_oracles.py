"""Byte oracles: two independent implementations of the protocol decode what we encode, and encode the same bytes again.

kio is compiled from Kafka's own schemas (4.2 level), kafka-python 3 interprets a copy of them. `EXCLUDED` names what one
of them cannot be asked, and why; `test_coverage` checks that it is neither more nor less than what they lack.
"""

from __future__ import annotations

import importlib
import io
import pkgutil
from collections.abc import Callable
from random import Random
from typing import Any

import kafka.protocol
import kio.index
import kio.serial
from kafka.protocol.api_message import ApiMessage
from kio.static.constants import EntityType
from twisted.trial.unittest import SynchronousTestCase

from chronik.wire.apis import ApiKey
from chronik.wire.codec import Message, Request
from tests.wire.values import all_messages, random_message

MESSAGES_EACH = 6
"""Random messages for each version; 20 were compared when the declarations were made."""

Recode = Callable[[bytes], bytes]

OLD_PRODUCE = "Kafka 4 removed versions 0 to 2; its schemas, which kio is made from, start at 3"
NOT_IN_KAFKA_PYTHON = "kafka-python 3.0 has no schema of this API"

EXCLUDED: dict[str, dict[tuple[ApiKey, int | None], str]] = {
    "kio": {(ApiKey.PRODUCE, version): OLD_PRODUCE for version in range(3)},
    "kafka-python": {
        (key, None): NOT_IN_KAFKA_PYTHON
        for key in (
            ApiKey.CREATE_DELEGATION_TOKEN,
            ApiKey.RENEW_DELEGATION_TOKEN,
            ApiKey.EXPIRE_DELEGATION_TOKEN,
            ApiKey.DESCRIBE_DELEGATION_TOKEN,
            ApiKey.CONSUMER_GROUP_HEARTBEAT,
            ApiKey.CONSUMER_GROUP_DESCRIBE,
            ApiKey.GET_TELEMETRY_SUBSCRIPTIONS,
            ApiKey.PUSH_TELEMETRY,
            ApiKey.UNREGISTER_BROKER,
            ApiKey.SHARE_GROUP_HEARTBEAT,
            ApiKey.SHARE_GROUP_DESCRIBE,
            ApiKey.SHARE_FETCH,
            ApiKey.SHARE_ACKNOWLEDGE,
            ApiKey.INITIALIZE_SHARE_GROUP_STATE,
            ApiKey.READ_SHARE_GROUP_STATE,
            ApiKey.WRITE_SHARE_GROUP_STATE,
            ApiKey.DELETE_SHARE_GROUP_STATE,
            ApiKey.READ_SHARE_GROUP_STATE_SUMMARY,
            ApiKey.DESCRIBE_SHARE_GROUP_OFFSETS,
            ApiKey.ALTER_SHARE_GROUP_OFFSETS,
            ApiKey.DELETE_SHARE_GROUP_OFFSETS,
        )
    },
}
"""What an oracle can't judge: (API, version), or (API, None) for all versions, and the reason."""


def _kio(key: ApiKey, cls: type[Message], version: int) -> Recode:
    kind = EntityType.request if issubclass(cls, Request) else EntityType.response
    module = kio.index.load_payload_module(key, version, kind)
    entity = getattr(module, cls.__name__)
    read, write = kio.serial.entity_reader(entity), kio.serial.entity_writer(entity)

    def recode(encoded: bytes) -> bytes:
        value, size = read(encoded, 0)
        assert size == len(encoded), f"kio read {size} of {len(encoded)} bytes"
        out = io.BytesIO()
        write(out, value)
        return out.getvalue()

    return recode


def _kafka_python_classes() -> dict[tuple[int, bool], Any]:
    """kafka-python's message classes by (API key, is it a request)."""
    for module in pkgutil.walk_packages(kafka.protocol.__path__, "kafka.protocol."):
        if ".old" not in module.name and "generate_stubs" not in module.name:
            importlib.import_module(module.name)
    found: dict[tuple[int, bool], Any] = {}
    classes: list[Any] = [ApiMessage]
    for cls in classes:
        classes += cls.__subclasses__()
        if getattr(cls, "_json", None):
            found[cls.API_KEY, cls.is_request()] = cls
    return found


def _kafka_python(theirs: Any, version: int) -> Recode:
    def recode(encoded: bytes) -> bytes:
        value = theirs.decode(encoded, version=version)
        value._header = None  # decode() leaves it out and encode() asks for it
        return bytes(value.encode())

    return recode


class OracleTests(SynchronousTestCase):
    """Ours -> theirs -> the same bytes -> ours, for every message and version that is not excluded."""

    def test_kio(self) -> None:
        self._compare("kio", _kio)

    def test_kafka_python(self) -> None:
        classes = _kafka_python_classes()

        def recoder(key: ApiKey, cls: type[Message], version: int) -> Recode:
            return _kafka_python(classes[key, issubclass(cls, Request)], version)

        self._compare("kafka-python", recoder)

    def _compare(self, oracle: str, recoder: Callable[[ApiKey, type[Message], int], Recode]) -> None:
        rng = Random(oracle)
        excluded = EXCLUDED[oracle]
        for key, cls, version in all_messages():
            if (key, None) in excluded or (key, version) in excluded:
                continue
            recode = recoder(key, cls, version)
            for _ in range(MESSAGES_EACH):
                message = random_message(cls, version, rng, tame=True)
                if oracle == "kafka-python" and cls.__name__ == "ApiVersionsResponse":
                    message.error_code = 0  # it takes any error for an answer in version 0, see KIP-511
                encoded = message.encode(version)
                theirs = recode(encoded)
                self.assertEqual(theirs.hex(), encoded.hex(), f"{oracle}: {cls.__name__} v{version} of {message}")
                self.assertEqual(cls.decode(theirs, version), (message, len(theirs)))

    def test_coverage(self) -> None:
        """Excluded is only what the oracle really lacks, and all of it."""
        classes = _kafka_python_classes()
        for key, cls, version in all_messages():
            is_request = issubclass(cls, Request)
            where = f"{cls.__name__} v{version}"
            theirs = classes.get((key, is_request))
            known = theirs is not None and version <= theirs.max_version
            self.assertEqual(known, (key, None) not in EXCLUDED["kafka-python"], f"kafka-python: {where}")
            try:
                _kio(key, cls, version)
                known = True
            except kio.index.UnknownEntity:
                known = False
            self.assertEqual(known, (key, version) not in EXCLUDED["kio"], f"kio: {where}")
