"""Which brokers hold the replicas of new partitions. Pure arithmetic: the same cluster always gives the same answer.

Brokers are laid in a row in which neighbours stand in different racks where that is possible. Partition number p takes the
`p`th broker of the row as its leader and the ones after it as followers, so leaders and replicas spread evenly; each time
round the row the followers move on by one, so that the load of a lost leader doesn't fall on a single neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence

from chronik.errors import ErrorCode, KafkaError
from chronik.model import Broker


def place_replicas(brokers: Sequence[Broker], first: int, count: int, replication_factor: int) -> list[tuple[int, ...]]:
    """The replicas of partitions `first` to `first + count - 1`, the preferred leader first.

    Raises KafkaError(INVALID_REPLICATION_FACTOR) when there are fewer unfenced brokers than replicas.
    """
    row = _interleave_racks([broker for broker in brokers if not broker.fenced])
    if replication_factor > len(row):
        raise KafkaError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"replication factor {replication_factor} is larger than the {len(row)} broker(s) available",
        )
    size = len(row)
    placed = []
    for partition in range(first, first + count):
        leader, lap = partition % size, partition // size
        followers = [row[(leader + 1 + (lap + step) % (size - 1)) % size] for step in range(replication_factor - 1)]
        placed.append((row[leader], *followers))
    return placed


def _interleave_racks(brokers: Sequence[Broker]) -> list[int]:
    racks: dict[str | None, list[int]] = {}
    for broker in sorted(brokers, key=lambda each: each.node_id):
        racks.setdefault(broker.rack, []).append(broker.node_id)
    row: list[int] = []
    queues = [racks[name] for name in sorted(racks, key=lambda name: (name is not None, name or ""))]
    for position in range(max(map(len, queues), default=0)):
        row.extend(queue[position] for queue in queues if position < len(queue))
    return row


def check_assignment(replicas: Sequence[int], brokers: Sequence[Broker], partition: int, expected: int | None) -> None:
    """Check replicas that a client chose for a partition. `expected` is how many the partitions before it have.

    Raises KafkaError(INVALID_REPLICA_ASSIGNMENT).
    """

    def refuse(why: str) -> KafkaError:
        return KafkaError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, f"the assignment of partition {partition} {why}")

    if not replicas:
        raise refuse("names no broker")
    by_id = {broker.node_id: broker for broker in brokers}
    for node_id in replicas:
        if node_id not in by_id:
            raise refuse(f"names broker {node_id}, which is not registered")
    if len(set(replicas)) != len(replicas):
        raise refuse("names a broker more than once")
    if expected is not None and len(replicas) != expected:
        raise refuse(f"has {len(replicas)} replica(s), the partitions before it have {expected}")
    if all(by_id[node_id].fenced for node_id in replicas):
        raise refuse("names fenced brokers only")
