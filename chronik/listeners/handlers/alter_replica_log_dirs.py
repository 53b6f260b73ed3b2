"""AlterReplicaLogDirs: move replicas between the log directories of this node (KIP-113).

The node keeps its replicas in one directory. Moving one to where it is already changes nothing, as with Kafka, and succeeds;
there is no other directory to move to.
"""

from __future__ import annotations

from collections.abc import Iterable

from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IClusterMetadata, ILogDirectory
from chronik.listeners.context import RequestContext
from chronik.steps import Steps, each_of
from chronik.wire.apis import ApiKey
from chronik.wire.messages.alter_replica_log_dirs import (
    AlterReplicaLogDirPartitionResult,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
    AlterReplicaLogDirTopicResult,
)


class AlterReplicaLogDirsHandler:
    """Serves AlterReplicaLogDirs for the replicas of `metadata` in the node's one `directory`."""

    api_key = ApiKey.ALTER_REPLICA_LOG_DIRS
    min_version = 1
    max_version = 2

    def __init__(self, directory: ILogDirectory, metadata: IClusterMetadata) -> None:
        self._directory = directory
        self._metadata = metadata

    def handle(
        self, request: AlterReplicaLogDirsRequest, context: RequestContext
    ) -> Steps[AlterReplicaLogDirsResponse]:
        """A result for each partition that is named; of one that is named twice, the last place counts, as with Kafka."""
        return (
            yield from _response(
                (name, index, self._result(path, name, index)) for path, name, index in _named(request)
            )
        )

    def refuse(
        self, request: AlterReplicaLogDirsRequest, version: int, error: KafkaError
    ) -> Steps[AlterReplicaLogDirsResponse]:
        """`error` for every partition that is named."""
        return _response((name, index, error.code) for _, name, index in _named(request))

    def _result(self, path: str, name: str, index: int) -> ErrorCode:
        if path != self._directory.path:
            return ErrorCode.LOG_DIR_NOT_FOUND
        topic = self._metadata.topic(name)
        if topic is None or not 0 <= index < len(topic.partitions):
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        return ErrorCode.NONE


def _named(request: AlterReplicaLogDirsRequest) -> Iterable[tuple[str, str, int]]:
    return (
        (directory.path, topic.name, index)
        for directory in request.dirs
        for topic in directory.topics
        for index in topic.partitions
    )


def _response(results: Iterable[tuple[str, int, ErrorCode]]) -> Steps[AlterReplicaLogDirsResponse]:
    topics: dict[str, dict[int, ErrorCode]] = {}
    for name, index, code in results:
        topics.setdefault(name, {})[index] = code
        yield
    answers = yield from each_of(
        topics.items(),
        lambda named: named[1].items(),
        lambda _, result: AlterReplicaLogDirPartitionResult(partition_index=result[0], error_code=result[1]),
        lambda named, partitions: AlterReplicaLogDirTopicResult(topic_name=named[0], partitions=partitions),
    )
    return AlterReplicaLogDirsResponse(results=answers)
