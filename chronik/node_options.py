"""The options of the node itself and of its listeners.

One of the declarations that `chronik.config.Config` is made of.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from chronik.addresses import ListenerAddress, parse_advertised, parse_listener, parse_listeners
from chronik.options import BYTES, INT32_MAX, KIBIBYTE, MEBIBYTE, MILLISECONDS, SECONDS, Section, did_you_mean

ROLES = ("all", "controller", "ingest", "query")

NODE = Section("The node")
LISTENERS = Section("Listeners and connections")


def _parse_role(text: str) -> str:
    names = [part.strip() for part in text.split(",") if part.strip()]
    for name in names or [text]:
        if name not in ROLES:
            raise ValueError(f"role {name!r} is unknown; the roles are {', '.join(ROLES)}{did_you_mean(name, ROLES)}")
    if names != ["all"]:
        raise ValueError(
            f"role {','.join(names)!r} is not built yet; this release runs every part in one node: role all"
        )
    return "all"


def _parse_object_store(text: str) -> str:
    if text != "local":
        raise ValueError(
            f"{text!r} is not built yet: tiering to object storage comes later; leave it unset, or 'local'"
        )
    return text


def parse_directory(text: str) -> str:
    """An absolute path. Raises ValueError."""
    if not text or "\0" in text:
        raise ValueError("a directory name is needed")
    return os.path.abspath(os.path.expanduser(text))


def _parse_admin(text: str) -> ListenerAddress | None:
    return None if text.lower() == "none" else parse_listener(text, "HTTP")


@dataclass(frozen=True, kw_only=True)
class NodeOptions:
    """What the node is called, where its data is, who may connect, and how much of what they send is taken at a time."""

    role: str = NODE.custom(
        "all",
        "What this process does. Only 'all' (one node, every part embedded) is built; controller, ingest and query follow.",
        _parse_role,
        "all",
        flag="role",
    )
    node_id: int = NODE.integer(
        1,
        "The number of this node in its cluster; fixed once the data directory exists.",
        high=INT32_MAX,
        kafka="node.id",
        flag="node-id",
    )
    data_directory: str = NODE.custom(
        "./chronik-data",
        "Where the node keeps everything it must not lose. One node holds it at a time.",
        parse_directory,
        "a directory; it is created where missing",
        environment="METADATA_PATH",
        flag="data-dir",
    )
    object_store_type: str = NODE.custom(
        "local",
        "Where sealed data is archived. Object storage is not built yet, so only 'local' (no archive) is accepted.",
        _parse_object_store,
        "local",
        environment="OBJECT_STORE_TYPE",
    )

    listeners: tuple[ListenerAddress, ...] = LISTENERS.custom(
        (ListenerAddress("PLAINTEXT", "127.0.0.1", 9092),),
        "Where Kafka clients connect, comma-separated. 'tcp:9092' and 'PLAINTEXT://:9092' bind every interface.",
        parse_listeners,
        "NAME://host:port, tcp:port or tcp:port:interface=host",
        kafka="listeners",
        environment="KAFKA_LISTENERS",
        flag="listen",
    )
    advertised_listeners: tuple[ListenerAddress, ...] = LISTENERS.custom(
        (),
        "What clients are told to dial, by the listener's name. Unset: each client gets back the address it dialled.",
        parse_advertised,
        "NAME://host:port, comma-separated",
        kafka="advertised.listeners",
        flag="advertise",
    )
    admin_listener: ListenerAddress | None = LISTENERS.custom(
        ListenerAddress("HTTP", "127.0.0.1", 8080),
        "Where the REST API (/v1/...) and /metrics are served. It has no authentication yet: keep it on loopback.",
        _parse_admin,
        "host:port, tcp:port or tcp:port:interface=host, or none",
        flag="admin-listen",
    )
    socket_request_max_bytes: int = LISTENERS.integer(
        100 * MEBIBYTE,
        "The largest request that is read; a longer one closes its connection.",
        low=1,
        high=INT32_MAX,
        unit=BYTES,
        kafka="socket.request.max.bytes",
    )
    socket_send_buffer_bytes: int = LISTENERS.integer(
        256 * KIBIBYTE,
        "The system's buffer for what a connection sends (SO_SNDBUF); -1 leaves its size to the system. A small one "
        "keeps answers in the processor's cache on their way; to fill a long and fast line takes a large one.",
        low=-1,
        high=INT32_MAX,
        unit=BYTES,
        kafka="socket.send.buffer.bytes",
    )
    max_connections: int = LISTENERS.integer(
        INT32_MAX,
        "Connections at once on all Kafka listeners; further ones are closed at once.",
        low=1,
        high=INT32_MAX,
        kafka="max.connections",
    )
    max_connections_per_ip: int = LISTENERS.integer(
        INT32_MAX, "The same for one client address.", low=1, high=INT32_MAX, kafka="max.connections.per.ip"
    )
    connections_max_idle_ms: int = LISTENERS.integer(
        600_000,
        "A connection without a request for this long is closed.",
        low=1,
        unit=MILLISECONDS,
        kafka="connections.max.idle.ms",
    )
    queued_max_request_bytes: int = LISTENERS.integer(
        256 * MEBIBYTE,
        "Bytes of large requests in work on the whole node, and again of answers not taken yet; above it, "
        "connections are read no further.",
        low=MEBIBYTE,
        unit=BYTES,
        kafka="queued.max.request.bytes",
    )
    quota_window_num: int = LISTENERS.integer(
        11,
        "Windows of time over which the rates of clients that have a quota are measured.",
        low=1,
        high=1000,
        kafka="quota.window.num",
    )
    quota_window_size_seconds: int = LISTENERS.integer(
        1, "The length of each of them.", low=1, high=86_400, unit=SECONDS, kafka="quota.window.size.seconds"
    )
    controller_quota_window_num: int = LISTENERS.integer(
        11,
        "Windows of time over which a client saves up its quota of created and deleted partitions while it asks for none.",
        low=1,
        high=1000,
        kafka="controller.quota.window.num",
    )
    controller_quota_window_size_seconds: int = LISTENERS.integer(
        1, "The length of each of them.", low=1, high=86_400, unit=SECONDS, kafka="controller.quota.window.size.seconds"
    )
