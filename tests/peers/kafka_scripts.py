"""The shell scripts of an Apache Kafka distribution, in front of the jars: for suites that call `$KAFKA_PATH/bin/...`."""

from __future__ import annotations

import shlex
from pathlib import Path

from tests.peers import cache, java

_MAINS = {
    "kafka-acls.sh": "org.apache.kafka.tools.AclCommand",
    "kafka-configs.sh": java.CONFIGS,
    "kafka-consumer-groups.sh": java.GROUPS,
    "kafka-topics.sh": java.TOPICS,
}


def distribution() -> Path:
    """A directory for KAFKA_PATH: `bin` with the scripts above and kafka-run-class.sh, `libs` with the jars."""
    line = java.command("MAIN", (), java.TOOL_OPTIONS)
    line = line[: line.index("-cp")]
    jars = java.jars()
    start = shlex.join(line)
    scripts = {name: f'#!/bin/sh\nexec {start} -cp "{jars}/*" {main} "$@"\n' for name, main in _MAINS.items()}
    # As Kafka's own script: the caller's CLASSPATH comes before the jars, the class is the first argument.
    scripts["kafka-run-class.sh"] = f'#!/bin/sh\nexec {start} -cp "${{CLASSPATH:+$CLASSPATH:}}{jars}/*" "$@"\n'

    def install(home: Path) -> None:
        (home / "bin").mkdir()
        for name, text in scripts.items():
            (home / "bin" / name).write_text(text)
            (home / "bin" / name).chmod(0o755)
        (home / "libs").symlink_to(jars)

    return cache.installed("kafka-scripts", repr(sorted(scripts.items())).encode(), install)
