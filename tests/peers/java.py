"""The jars of Apache Kafka 4.1 and the programs in them: the broker's main class and the tools that operators use."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.peers import cache

RECIPE = Path(__file__).parent / "kafka"

TOPICS = "org.apache.kafka.tools.TopicCommand"
CONFIGS = "kafka.admin.ConfigCommand"
GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
CONSOLE_PRODUCER = "org.apache.kafka.tools.ConsoleProducer"
CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
CONSOLE_SHARE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleShareConsumer"
SHARE_GROUPS = "org.apache.kafka.tools.consumer.group.ShareGroupCommand"
PRODUCER_PERFORMANCE = "org.apache.kafka.tools.ProducerPerformance"
CONSUMER_PERFORMANCE = "org.apache.kafka.tools.ConsumerPerformance"
VERIFIABLE_PRODUCER = "org.apache.kafka.tools.VerifiableProducer"
VERIFIABLE_CONSUMER = "org.apache.kafka.tools.VerifiableConsumer"
GET_OFFSETS = "org.apache.kafka.tools.GetOffsetShell"
API_VERSIONS = "org.apache.kafka.tools.BrokerApiVersionsCommand"
DELETE_RECORDS = "org.apache.kafka.tools.DeleteRecordsCommand"
LOG_DIRS = "org.apache.kafka.tools.LogDirsCommand"
CLUSTER = "org.apache.kafka.tools.ClusterTool"
END_TO_END = "org.apache.kafka.tools.EndToEndLatency"
FEATURES = "org.apache.kafka.tools.FeatureCommand"
TRANSACTIONS = "org.apache.kafka.tools.TransactionsCommand"
DUMP_LOG = "kafka.tools.DumpLogSegments"


def jars() -> Path:
    """The directory of the jars, resolved by Maven on first use."""
    pom = (RECIPE / "pom.xml").read_bytes()

    def install(home: Path) -> None:
        maven = cache.program("mvn", "maven")
        command = [maven, "-B", "-q", "-f", str(RECIPE / "pom.xml"), "dependency:copy-dependencies"]
        done = subprocess.run([*command, f"-DoutputDirectory={home}"], capture_output=True, text=True, check=False)
        if done.returncode:
            raise cache.PeerMissing(f"Maven could not fetch Apache Kafka:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    return cache.installed("kafka", pom, install)


def command(main: str, arguments: Sequence[str], options: Sequence[str] = ()) -> list[str]:
    """The command line of one program of the jars; `options` go to the virtual machine."""
    return [
        cache.program("java", "default-jre-headless"),
        *options,
        f"-Dlog4j2.configurationFile={RECIPE / 'log4j2.yaml'}",
        "-cp",
        f"{jars()}/*",
        main,
        *arguments,
    ]


def compiled(source: Path) -> Path:
    """The directory of the classes of one Java file of ours, compiled by the JDK on first use."""

    def install(home: Path) -> None:
        line = [cache.program("javac", "default-jdk-headless"), "-cp", f"{jars()}/*", "-d", str(home), str(source)]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        if done.returncode:
            raise AssertionError(f"{source.name} does not compile: {done.stderr}")

    return cache.installed(source.stem.lower(), source.read_bytes(), install)


def own_command(source: Path, arguments: Sequence[str], options: Sequence[str] = ()) -> list[str]:
    """The command line of a program of ours: `source` is its Java file, with a `main` in the class of its name."""
    line = command(source.stem, arguments, options)
    position = line.index("-cp") + 1
    line[position] = f"{compiled(source)}:{line[position]}"
    return line


TOOL_OPTIONS = ("-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")
"""For programs that live for seconds: a small heap, the quick compiler, one collector thread."""


def run(
    main: str, *arguments: str, stdin: bytes | None = None, timeout: float = 120.0
) -> subprocess.CompletedProcess[bytes]:
    """Run one tool to its end. The caller looks at `returncode`, `stdout` and `stderr`."""
    line = command(main, arguments, TOOL_OPTIONS)
    if stdin is None:
        return subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False)
    return subprocess.run(line, input=stdin, capture_output=True, timeout=timeout, check=False)
