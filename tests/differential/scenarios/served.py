"""What is served, and what happens to versions, keys and frames that are not."""

from __future__ import annotations

import struct

from chronik.wire.apis import ApiKey, message_classes
from chronik.wire.messages.api_versions import ApiVersionsResponse
from chronik.wire.messages.metadata import MetadataResponse
from tests.differential.scenarios import VERSIONS, latest, scenario, versions
from tests.differential.session import Session

_CLIENT = {"client_software_name": "differential", "client_software_version": "1.0"}


def frame(
    key: int, version: int, correlation: int, body: bytes = b"", client: bytes = b"\0\x01x", tags: bytes = b""
) -> bytes:
    """A request frame from raw parts."""
    content = struct.pack(">hhi", key, version, correlation) + client + tags + body
    return struct.pack(">i", len(content)) + content


@scenario
def api_versions(s: Session) -> None:
    for version in versions(ApiKey.API_VERSIONS):
        s.ask("served", ApiKey.API_VERSIONS, version, _CLIENT)
    s.raw("version 99 answers in version 0", frame(18, 99, 7, tags=b"\0"), ApiVersionsResponse, 0)
    s.ask("the connection lives on", ApiKey.API_VERSIONS, 0, {})
    s.ask("no client name", ApiKey.API_VERSIONS, 3, {})
    s.ask(
        "bad client name", ApiKey.API_VERSIONS, 3, {"client_software_name": "-bad name", "client_software_version": "1"}
    )


@scenario
def unserved_versions(s: Session) -> None:
    for key in VERSIONS:
        if key != ApiKey.API_VERSIONS:
            above = frame(key, 60, 1, tags=b"\0")
            s.raw(f"{key.name} v60", above)
    for key, version in (
        (ApiKey.FETCH, 3),
        (ApiKey.LIST_OFFSETS, 0),
        (ApiKey.CREATE_TOPICS, 1),
        (ApiKey.OFFSET_COMMIT, 1),
        (ApiKey.SHARE_GROUP_HEARTBEAT, 0),
        (ApiKey.SHARE_FETCH, 0),
    ):
        s.raw(f"{key.name} v{version}", frame(key, version, 2, bytes(40)))
    s.raw("API 1234", frame(1234, 0, 3))
    s.raw("API -1", frame(-1, 0, 3))


@scenario
def produce_of_old_versions(s: Session) -> None:
    for version in (0, 1, 2):
        data = [{"name": "old-produce", "partition_data": [{"index": 0, "records": b""}]}]
        s.ask("refused", ApiKey.PRODUCE, version, {"acks": 1, "timeout_ms": 1000, "topic_data": data})


@scenario
def hostile_frames(s: Session) -> None:
    s.raw("size -1", struct.pack(">i", -1))
    s.raw("size 2 GiB - 1", struct.pack(">i", 0x7FFFFFFF))
    s.raw("size 0", struct.pack(">i", 0))
    s.raw("size 3", struct.pack(">i", 3) + b"abc")
    s.raw("client id longer than the frame", frame(3, 1, 1, client=b"\x7f\xffx"))
    s.raw("client id of length -2", frame(3, 1, 1, bytes(4), client=b"\xff\xfe"), MetadataResponse, 1)
    s.raw("metadata cut short", frame(3, 1, 1, b"\0\0"))
    s.raw("metadata with 2 G topics", frame(3, 1, 1, b"\x7f\xff\xff\xff"))
    s.raw("metadata with a topic name of length -1", frame(3, 1, 1, b"\0\0\0\x01\xff\xff"))
    s.raw("an array of -2", frame(3, 1, 1, b"\xff\xff\xff\xfe"), MetadataResponse, 1)
    s.raw("bytes after the body", frame(18, 0, 1, b"surplus"), ApiVersionsResponse, 0)
    request, response = message_classes(ApiKey.DESCRIBE_CLUSTER)
    unknown_tag = b"\x01\x63\x03abc"
    body = request(include_cluster_authorized_operations=False).encode(0)[:-1] + unknown_tag
    s.raw("unknown tagged field", frame(60, 0, 1, body, tags=unknown_tag), response, 0)
    huge_tag = b"\x01\x63\xff\xff\xff\xff\x07abc"
    s.raw("tagged field longer than the frame", frame(60, 0, 1, body[:-6] + huge_tag, tags=b"\0"))
    s.raw("varint without an end", frame(60, 0, 1, b"\0" * 2 + b"\xff" * 12, tags=b"\0"), response, 0)


@scenario
def answers_in_order(s: Session) -> None:
    """Three requests in one breath; the answers come in their order."""
    asked = [
        s.begin("first", ApiKey.API_VERSIONS, 0, {}),
        s.begin("second", ApiKey.METADATA, latest(ApiKey.METADATA), {"topics": []}),
        s.begin("third", ApiKey.API_VERSIONS, 2, {}),
    ]
    for pending in asked:
        s.read(pending)


@scenario
def describe_cluster(s: Session) -> None:
    for version in versions(ApiKey.DESCRIBE_CLUSTER):
        s.ask("plain", ApiKey.DESCRIBE_CLUSTER, version, {})
        s.ask("with operations", ApiKey.DESCRIBE_CLUSTER, version, {"include_cluster_authorized_operations": True})
    for kind in (0, 2, 3):
        s.ask(f"endpoint type {kind}", ApiKey.DESCRIBE_CLUSTER, 1, {"endpoint_type": kind})
    s.ask("fenced ones too", ApiKey.DESCRIBE_CLUSTER, 2, {"include_fenced_brokers": True})


@scenario
def metadata_of_nothing(s: Session) -> None:
    """Before any topic exists."""
    for version in versions(ApiKey.METADATA):
        s.ask("empty array", ApiKey.METADATA, version, {"topics": []})
        if version >= 1:
            s.ask("null array", ApiKey.METADATA, version, {"topics": None})
    for version in (8, 10):
        s.ask(
            "cluster operations",
            ApiKey.METADATA,
            version,
            {"topics": [], "include_cluster_authorized_operations": True},
        )
