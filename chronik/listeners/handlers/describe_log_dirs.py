"""DescribeLogDirs: where this node keeps its partitions, and how large they are."""

from __future__ import annotations

from chronik.errors import KafkaError
from chronik.interfaces import ILogDirectory
from chronik.listeners.context import RequestContext
from chronik.steps import Steps
from chronik.wire.apis import ApiKey
from chronik.wire.messages.describe_log_dirs import (
    DescribeLogDirsPartition,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
    DescribeLogDirsTopic,
)


class DescribeLogDirsHandler:
    """Serves DescribeLogDirs from the node's one `directory`. A partition's current log never lags behind itself."""

    api_key = ApiKey.DESCRIBE_LOG_DIRS
    min_version = 1
    max_version = 4

    def __init__(self, directory: ILogDirectory) -> None:
        self._directory = directory

    def handle(self, request: DescribeLogDirsRequest, context: RequestContext) -> Steps[DescribeLogDirsResponse]:
        """The partitions asked for that are here; null asks for all."""
        wanted: set[tuple[str, int]] | None = None
        if request.topics is not None:
            wanted = set()
            for asked in request.topics:
                for index in asked.partitions:
                    wanted.add((asked.topic, index))
                    yield
                yield
        topics: dict[str, DescribeLogDirsTopic] = {}
        for partition, size in self._directory.partition_sizes():
            yield
            if wanted is not None and partition not in wanted:
                continue
            topic = topics.get(partition.topic)
            if topic is None:
                topic = topics[partition.topic] = DescribeLogDirsTopic(name=partition.topic)
            topic.partitions.append(DescribeLogDirsPartition(partition_index=partition.partition, partition_size=size))
        total, usable = self._directory.volume()
        return DescribeLogDirsResponse(
            results=[
                DescribeLogDirsResult(
                    log_dir=self._directory.path,
                    topics=list(topics.values()),
                    total_bytes=total,
                    usable_bytes=usable,
                )
            ]
        )

    def refuse(self, request: DescribeLogDirsRequest, version: int, error: KafkaError) -> DescribeLogDirsResponse:
        """`error`, in the field that versions from 3 on have for it."""
        return DescribeLogDirsResponse(error_code=error.code)
