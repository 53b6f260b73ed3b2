"""A node whose search listener is asked over a socket: messages produced by librdkafka, requests by http.client."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from confluent_kafka import Producer

from chronik.testing import Chronik

JSON = "application/json"
Message = tuple[bytes | None, bytes | None]
"""Key and value."""


class Answer(NamedTuple):
    """An HTTP answer; `body` is decoded where it is JSON."""

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def hits(self) -> list[Any]:
        """The hits of a search."""
        found: list[Any] = self.body["hits"]["hits"]
        return found

    @property
    def ids(self) -> list[str]:
        """Their ids."""
        return [hit["_id"] for hit in self.hits]

    @property
    def reason(self) -> str:
        """Why it was refused."""
        return str(self.body["error"]["reason"])


def ask(broker: Chronik, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    """Ask the search listener; `body` is JSON if it isn't bytes. Headers are written with underscores."""
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    sent = {} if content is None else {"content-type": JSON}
    sent.update({name.replace("_", "-"): text for name, text in headers.items()})
    connection = http.client.HTTPConnection(urlsplit(broker.search_url).netloc, timeout=60)
    try:
        connection.request(method, path, content, sent)
        response = connection.getresponse()
        received = response.read()
    finally:
        connection.close()
    kind = response.headers.get("content-type", "")
    told = {name.lower(): text for name, text in response.headers.items()}
    return Answer(
        response.status,
        json.loads(received) if "json" in kind and "ndjson" not in kind and received else received,
        told,
    )


def produce(broker: Chronik, topic: str, messages: Iterable[Message], partition: int = 0, **more: Any) -> None:
    """Produce messages, in order. `headers` and `timestamp` are the same for all of them."""
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "linger.ms": 5, "message.max.bytes": 32 << 20})
    for key, value in messages:
        while True:
            try:
                producer.produce(topic, value, key, partition, **more)
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(60):
        raise AssertionError("not all was delivered")
