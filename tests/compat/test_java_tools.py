"""Apache Kafka's own command-line tools, unmodified, verb by verb, with a look at what they print."""

from __future__ import annotations

import json
import re
import subprocess
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.compat.node import WHOLE, BrokerTestCase, started
from tests.peers import java


class ToolTestCase(BrokerTestCase):
    """Runs tools against the shared broker."""

    def tool(self, main: str, *arguments: str, stdin: bytes | None = None, fails: bool = False) -> str:
        """What the tool printed on both streams; it must succeed, or fail where `fails`."""
        done = java.run(main, "--bootstrap-server", self.bootstrap, *arguments, stdin=stdin)
        said = (done.stdout + done.stderr).decode("utf-8", "replace")
        failed = done.returncode != 0
        self.assertEqual(failed, fails, f"{main} {' '.join(arguments)} ended with {done.returncode}:\n{said[-3000:]}")
        return said

    def tool_alone(self, main: str, *arguments: str) -> None:
        """A tool that is told of the broker in a way of its own; it must succeed."""
        done = java.run(main, *arguments)
        self.assertEqual(done.returncode, 0, done.stderr.decode("utf-8", "replace")[-3000:])

    def create(self, topic: str, partitions: int = 1, *more: str) -> None:
        """A topic by kafka-topics."""
        said = self.tool(java.TOPICS, "--create", "--topic", topic, "--partitions", str(partitions), *more)
        self.assertIn(f"Created topic {topic}.", said)

    def fill(self, topic: str, count: int) -> list[str]:
        """Produce numbered lines by kafka-console-producer."""
        lines = [f"line {number}" for number in range(count)]
        self.tool(java.CONSOLE_PRODUCER, "--topic", topic, stdin="\n".join(lines).encode() + b"\n")
        return lines


class Topics(ToolTestCase):
    """kafka-topics."""

    def test_life_of_a_topic(self) -> None:
        """Create, list, describe, grow, delete."""
        self.create("tool-topic", 3, "--replication-factor", "1", "--config", "retention.ms=60000")
        self.assertIn("tool-topic", self.tool(java.TOPICS, "--list").split())
        said = self.tool(java.TOPICS, "--describe", "--topic", "tool-topic")
        head = r"Topic: tool-topic\s+TopicId: [\w-]{22}\s+PartitionCount: 3\s+ReplicationFactor: 1\s+Configs: .*"
        self.assertRegex(said, head + "retention.ms=60000")
        self.assertEqual(len(re.findall(r"Partition: \d\s+Leader: \d+\s+Replicas: \d+\s+Isr: \d+", said)), 3)
        self.tool(java.TOPICS, "--alter", "--topic", "tool-topic", "--partitions", "5")
        self.assertIn("PartitionCount: 5", self.tool(java.TOPICS, "--describe", "--topic", "tool-topic"))
        self.tool(java.TOPICS, "--delete", "--topic", "tool-topic")
        self.assertNotIn("tool-topic", self.tool(java.TOPICS, "--list").split())

    def test_refusals(self) -> None:
        """What cannot be done is said."""
        if WHOLE:
            self.create("tool-twice")
            said = self.tool(java.TOPICS, "--create", "--topic", "tool-twice", fails=True)
            self.assertIn("TopicExistsException", said)
            said = self.tool(java.TOPICS, "--create", "--topic", "bad/name", fails=True)
            self.assertIn("InvalidTopicException", said)
            said = self.tool(java.TOPICS, "--alter", "--topic", "tool-twice", "--partitions", "1", fails=True)
            self.assertIn("InvalidPartitionsException", said)
        said = self.tool(java.TOPICS, "--create", "--topic", "tool-r3", "--replication-factor", "3", fails=True)
        self.assertIn("InvalidReplicationFactorException", said)


class Configs(ToolTestCase):
    """kafka-configs."""

    def test_topic_configs(self) -> None:
        """Alter, describe, delete."""
        self.create("tool-configs")
        entity = ("--entity-type", "topics", "--entity-name", "tool-configs")
        said = self.tool(java.CONFIGS, "--alter", *entity, "--add-config", "retention.ms=123456,segment.bytes=2097152")
        self.assertIn("Completed updating config for topic tool-configs.", said)
        said = self.tool(java.CONFIGS, "--describe", *entity)
        self.assertIn("retention.ms=123456", said)
        self.assertIn("segment.bytes=2097152", said)
        said = self.tool(java.CONFIGS, "--describe", "--all", *entity)
        for name in ("cleanup.policy=delete", "compression.type=producer", "max.message.bytes=1048588"):
            self.assertIn(name, said)
        if WHOLE:
            self.tool(java.CONFIGS, "--alter", *entity, "--delete-config", "retention.ms")
            self.assertNotIn("retention.ms=123456", self.tool(java.CONFIGS, "--describe", *entity))
            said = self.tool(java.CONFIGS, "--alter", *entity, "--add-config", "retention.ms=soon", fails=True)
            self.assertIn("InvalidConfigurationException", said)

    def test_broker_configs(self) -> None:
        """Describe."""
        node = "1"
        said = self.tool(java.CONFIGS, "--describe", "--all", "--entity-type", "brokers", "--entity-name", node)
        self.assertIn("num.partitions=", said)


class Console(ToolTestCase):
    """kafka-console-producer and kafka-console-consumer."""

    def test_lines(self) -> None:
        """Lines in, lines out."""
        self.create("tool-console")
        lines = self.fill("tool-console", 200)
        said = java.run(
            *(java.CONSOLE_CONSUMER, "--bootstrap-server", self.bootstrap, "--topic", "tool-console"),
            *("--from-beginning", "--max-messages", "200", "--timeout-ms", "30000"),
        )
        self.assertEqual(said.stdout.decode().splitlines(), lines)

    def test_keys_and_details(self) -> None:
        """Keys, headers' absence, partitions, offsets and times are shown; a group commits."""
        self.create("tool-keyed", 2)
        lines = [f"k{number % 5}:v{number}" for number in range(50)]
        more = ("--property", "parse.key=true", "--property", "key.separator=:", "--compression-codec", "zstd")
        self.tool(java.CONSOLE_PRODUCER, "--topic", "tool-keyed", *more, stdin="\n".join(lines).encode() + b"\n")
        said = java.run(
            *(java.CONSOLE_CONSUMER, "--bootstrap-server", self.bootstrap, "--topic", "tool-keyed", "--from-beginning"),
            *("--max-messages", "50", "--timeout-ms", "30000", "--group", "tool-console-group"),
            *("--property", "print.key=true", "--property", "print.offset=true", "--property", "print.partition=true"),
        )
        found = said.stdout.decode().splitlines()
        self.assertEqual(sorted(":".join(line.split("\t")[-2:]) for line in found), sorted(lines))
        self.assertRegex(found[0], r"Partition:\d\tOffset:\d+\t")


class Groups(ToolTestCase):
    """kafka-consumer-groups."""

    def test_life_of_a_group(self) -> None:
        """List, describe, reset, delete offsets, delete."""
        self.create("tool-grouped", 2)
        self.fill("tool-grouped", 100)
        group = "tool-group"
        java.run(
            *(
                java.CONSOLE_CONSUMER,
                "--bootstrap-server",
                self.bootstrap,
                "--topic",
                "tool-grouped",
                "--from-beginning",
            ),
            *("--max-messages", "100", "--timeout-ms", "30000", "--group", group),
        )
        self.assertIn(group, self.tool(java.GROUPS, "--list").split())
        if WHOLE:
            self.assertRegex(self.tool(java.GROUPS, "--list", "--state"), rf"{group}\s+Empty")
        said = self.tool(java.GROUPS, "--describe", "--group", group)
        self.assertEqual(self.positions(said, group), 100, said)
        if WHOLE:
            self.assertRegex(self.tool(java.GROUPS, "--describe", "--group", group, "--state"), rf"{group}\s.*Empty")
            self.assertIn("has no active members", self.tool(java.GROUPS, "--describe", "--group", group, "--members"))
        reset = ("--reset-offsets", "--group", group, "--topic", "tool-grouped")
        self.tool(java.GROUPS, *reset, "--to-earliest", "--dry-run")
        self.tool(java.GROUPS, *reset, "--to-earliest", "--execute")
        self.assertEqual(self.positions(self.tool(java.GROUPS, "--describe", "--group", group), group), 0)
        if WHOLE:
            self.tool(java.GROUPS, *reset, "--shift-by", "3", "--execute")
            self.tool(java.GROUPS, *reset, "--to-datetime", "2020-01-01T00:00:00.000", "--execute")
            self.tool(java.GROUPS, *reset, "--to-latest", "--execute")
            self.assertEqual(self.positions(self.tool(java.GROUPS, "--describe", "--group", group), group), 100)
            said = self.tool(java.GROUPS, "--delete-offsets", "--group", group, "--topic", "tool-grouped")
            self.assertIn("succeeded for deleting offsets", said)
        self.assertIn("successful", self.tool(java.GROUPS, "--delete", "--group", group))
        self.assertNotIn(group, self.tool(java.GROUPS, "--list").split())

    def positions(self, said: str, group: str) -> int:
        """The sum of the committed offsets in a description."""
        return sum(int(found) for found in re.findall(rf"^{group}\s+\S+\s+\d+\s+(\d+)", said, re.MULTILINE))


class Performance(ToolTestCase):
    """kafka-producer-perf-test and kafka-consumer-perf-test."""

    def test_produce_and_consume(self) -> None:
        """All records are sent, acknowledged, and read back."""
        count = 50_000 if WHOLE else 5_000
        self.create("tool-perf", 3)
        done = java.run(
            *(java.PRODUCER_PERFORMANCE, "--topic", "tool-perf", "--num-records", str(count), "--record-size", "200"),
            *("--throughput", "-1", "--producer-props", f"bootstrap.servers={self.bootstrap}", "acks=all"),
        )
        said = done.stdout.decode()
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        self.assertIn(f"{count} records sent", said)
        done = java.run(
            *(java.CONSUMER_PERFORMANCE, "--bootstrap-server", self.bootstrap, "--topic", "tool-perf"),
            *("--messages", str(count), "--timeout", "30000"),
        )
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        columns = done.stdout.decode().splitlines()[-1].split(", ")
        self.assertEqual(int(columns[4]), count, done.stdout.decode())


class Verifiable(ToolTestCase):
    """kafka-verifiable-producer and kafka-verifiable-consumer."""

    def test_both(self) -> None:
        """Every value that the producer says is acknowledged is consumed once."""
        count = 2_000
        self.create("tool-verifiable", 2)
        done = java.run(
            *(java.VERIFIABLE_PRODUCER, "--bootstrap-server", self.bootstrap, "--topic", "tool-verifiable"),
            *("--max-messages", str(count), "--acks", "-1"),
        )
        events = [json.loads(line) for line in done.stdout.decode().splitlines()]
        sent = [event["value"] for event in events if event["name"] == "producer_send_success"]
        self.assertEqual(len(sent), count, done.stderr.decode()[-2000:])
        line = java.command(
            java.VERIFIABLE_CONSUMER,
            [
                *("--bootstrap-server", self.bootstrap, "--topic", "tool-verifiable", "--group-id", "tool-verifiers"),
                *("--max-messages", str(count), "--reset-policy", "earliest", "--verbose"),
            ],
            java.TOOL_OPTIONS,
        )
        done = subprocess.run(line, capture_output=True, timeout=90, check=False)
        events = [json.loads(line) for line in done.stdout.decode().splitlines() if line.startswith("{")]
        came = [event["value"] for event in events if event["name"] == "record_data"]
        self.assertEqual(sorted(came), sorted(sent), done.stderr.decode()[-2000:])
        commits = [event for event in events if event["name"] == "offsets_committed"]
        self.assertTrue(commits and all(event["success"] for event in commits))


class Operators(ToolTestCase):
    """The smaller tools that operators reach for."""

    def test_offsets(self) -> None:
        """kafka-get-offsets: latest, earliest, by time."""
        self.create("tool-offsets", 2)
        self.fill("tool-offsets", 40)
        said = self.tool(java.GET_OFFSETS, "--topic", "tool-offsets")
        self.assertEqual(
            sum(int(line.split(":")[2]) for line in said.splitlines() if line.startswith("tool-offsets:")), 40
        )
        said = self.tool(java.GET_OFFSETS, "--topic", "tool-offsets", "--time", "earliest")
        self.assertIn("tool-offsets:0:0", said)
        if WHOLE:
            self.tool(java.GET_OFFSETS, "--topic", "tool-offsets", "--time", "max-timestamp")
            self.tool(java.GET_OFFSETS, "--topic", "tool-offsets", "--time", "1600000000000")

    def test_delete_records(self) -> None:
        """kafka-delete-records moves the beginning of the log."""
        self.create("tool-trimmed")
        self.fill("tool-trimmed", 30)
        with TemporaryDirectory() as directory:
            path = Path(directory) / "offsets.json"
            wanted = {"partitions": [{"topic": "tool-trimmed", "partition": 0, "offset": 12}], "version": 1}
            path.write_text(json.dumps(wanted))
            self.assertIn("low_watermark: 12", self.tool(java.DELETE_RECORDS, "--offset-json-file", str(path)))
        said = self.tool(java.GET_OFFSETS, "--topic", "tool-trimmed", "--time", "earliest")
        self.assertIn("tool-trimmed:0:12", said)

    def test_what_is_served(self) -> None:
        """kafka-broker-api-versions knows every API by name, kafka-log-dirs and kafka-cluster describe the node."""
        said = self.tool(java.API_VERSIONS)
        self.assertRegex(said, r"Produce\(0\): \d+ to 13 \[usable: 13\]")
        if WHOLE:
            self.create("tool-dirs")
            said = self.tool(java.LOG_DIRS, "--describe", "--topic-list", "tool-dirs")
            self.assertIn('"partition":"tool-dirs-0"', said)
            said = java.run(java.CLUSTER, "cluster-id", "--bootstrap-server", self.bootstrap).stdout.decode()
            self.assertRegex(said, r"Cluster ID: \S{22}")

    def test_quota_of_mutations(self) -> None:
        """kafka-configs sets it, and kafka-topics is refused what is too much."""
        if not WHOLE:
            self.skipTest("runs with CHRONIK_COMPAT=1")
        self.bootstrap = self.own_broker({})
        entity = ("--entity-type", "users", "--entity-default")
        said = self.tool(java.CONFIGS, "--alter", *entity, "--add-config", "controller_mutation_rate=2")
        self.assertIn("Completed updating default config for users", said)
        self.assertIn("controller_mutation_rate=2.0", self.tool(java.CONFIGS, "--describe", *entity))
        self.create("tool-quota-much", 222)  # 22 were saved up, the rest is owed
        said = self.tool(java.TOPICS, "--create", "--topic", "tool-quota-later", fails=True)
        self.assertIn("ThrottlingQuotaExceededException", said)
        said = self.tool(java.TOPICS, "--delete", "--topic", "tool-quota-much", fails=True)
        self.assertIn("ThrottlingQuotaExceededException", said)
        self.tool(java.CONFIGS, "--alter", *entity, "--delete-config", "controller_mutation_rate")
        self.create("tool-quota-later")

    def test_features(self) -> None:
        """kafka-features: describe, upgrade, downgrade, dry runs, refusals; the levels are acted on, and outlive a restart."""
        directory = Path(self.enterContext(TemporaryDirectory()))
        broker = started(directory, {})
        self.addCleanup(broker.stop)
        self.bootstrap = broker.bootstrap
        group, transactions = "group.version", "transaction.version"

        def level(feature: str) -> str:
            said = self.tool(java.FEATURES, "describe")
            found = re.search(rf"^Feature: {feature}\s.*FinalizedVersionLevel: (\d+)", said, re.MULTILINE)
            assert found is not None, said
            return found[1]

        def transactional(transactional_id: str) -> int:
            """The epoch of a producer that has committed some transactions: of v2 each has one of its own."""
            self.tool_alone(
                *(java.PRODUCER_PERFORMANCE, "--topic", "tool-features", "--num-records", "300", "--record-size", "10"),
                *("--throughput", "1000", "--producer-props", f"bootstrap.servers={self.bootstrap}"),
                *("--transactional-id", transactional_id, "--transaction-duration-ms", "50"),
            )
            said = self.tool(java.TRANSACTIONS, "describe", "--transactional-id", transactional_id)
            found = re.search(rf"^\d+\s+{transactional_id}\s+\d+\s+(\d+)\s+CompleteCommit", said, re.MULTILINE)
            assert found is not None, said
            return int(found[1])

        self.assertEqual(level(transactions), "2")
        said = self.tool(java.FEATURES, "downgrade", "--feature", f"{transactions}=1", "--dry-run")
        self.assertIn(f"{transactions} can be downgraded to 1.", said)
        said = self.tool(java.FEATURES, "upgrade", "--feature", f"{transactions}=9", fails=True)
        self.assertIn(f"Could not upgrade {transactions} to 9.", said)
        self.create("tool-features")
        self.assertGreater(transactional("tool-v2"), 0)
        self.tool(java.FEATURES, "disable", "--feature", group, "--feature", transactions)
        self.assertEqual(transactional("tool-v1"), 0)
        consumer = ("--topic", "tool-features", "--from-beginning", "--max-messages", "600", "--timeout-ms", "20000")
        consumer = (*consumer, "--consumer-property", "group.protocol=consumer", "--isolation-level", "read_committed")
        said = self.tool(java.CONSOLE_CONSUMER, *consumer)
        self.assertIn("UnsupportedVersionException", said)
        broker.stop()
        broker.start()
        self.assertEqual((level(group), level(transactions)), ("0", "0"))
        said = self.tool(java.FEATURES, "upgrade", "--feature", f"{group}=1", "--feature", f"{transactions}=2")
        self.assertIn(f"{group} was upgraded to 1.", said)
        self.assertIn("Processed a total of 600 messages", self.tool(java.CONSOLE_CONSUMER, *consumer))

    def test_end_to_end_latency(self) -> None:
        """kafka-e2e-latency: every message goes there and back."""
        if not WHOLE:
            self.skipTest("runs with CHRONIK_COMPAT=1")
        self.create("tool-latency")
        done = java.run(java.END_TO_END, self.bootstrap, "tool-latency", "200", "all", "100")
        self.assertIn("Avg latency", done.stdout.decode(), done.stderr.decode()[-1000:])


if __name__ == "__main__":
    unittest.main()
