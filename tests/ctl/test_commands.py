"""The whole command against a real broker (see tests.client.real_broker), with kcat beside it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase

import chronik
from tests.client.real_broker import bootstrap, fresh

LINES = [b"line %d " % i + b"x" * (i % 50) for i in range(2000)]


SOURCE = str(Path(chronik.__file__).parent.parent)


def environment(server: str | None = None) -> dict[str, str]:
    """The child's environment: this very source (trial runs elsewhere), and the broker."""
    return {**os.environ, "PYTHONPATH": SOURCE, "CHRONIK_BOOTSTRAP_SERVERS": server or bootstrap()}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "chronik.ctl.main", *arguments]


async def ctl(*arguments: str, stdin: bytes = b"", server: str | None = None) -> tuple[int, bytes, str]:
    """(exit code, stdout, stderr) of one chronik-ctl."""
    done: Any = await deferToThread(
        subprocess.run, command(*arguments), input=stdin, capture_output=True, timeout=60, env=environment(server)
    )
    return done.returncode, done.stdout, done.stderr.decode()


async def kcat(*arguments: str, stdin: bytes = b"") -> bytes:
    from tests.peers import kcat as peer
    from tests.peers.cache import PeerMissing

    try:
        return bytes(await deferToThread(peer.run, "-b", bootstrap(), *arguments, stdin=stdin))
    except PeerMissing as missing:
        raise SkipTest(str(missing)) from None


class CommandTests(TestCase):
    timeout = 120

    def setUp(self) -> None:
        bootstrap()

    async def good(self, *arguments: str, stdin: bytes = b"") -> bytes:
        code, out, err = await ctl(*arguments, stdin=stdin)
        self.assertEqual(code, 0, err)
        return out

    async def good_json(self, *arguments: str) -> Any:
        return json.loads(await self.good(*arguments, "-o", "json"))

    async def bad(self, *arguments: str, stdin: bytes = b"") -> tuple[int, str]:
        code, _, err = await ctl(*arguments, stdin=stdin)
        self.assertEqual(err.count("\n"), 1, err)
        return code, err

    async def topic(self, partitions: int = 1) -> str:
        name = fresh("ctl")
        await self.good("topic", "create", name, "-p", str(partitions), "-r", "1")
        return name

    async def test_quotas_from_set_to_removed(self) -> None:
        name = fresh("slow")
        row = {"user": None, "client_id": name, "ip": None, "quota": "producer_byte_rate", "value": 1000000}
        default = {**row, "user": "<default>", "quota": "request_percentage", "value": 99.5}
        self.assertEqual(await self.good_json("quota", "set", "--client-id", name, "producer_byte_rate=1e6"), [row])
        both = ("--client-id", name, "--user", "<default>")
        self.assertEqual(await self.good_json("quota", "set", *both, "request_percentage=99.5"), [default])
        listed = [each for each in await self.good_json("quota", "list") if each["client_id"] == name]
        self.assertEqual(listed, [default, row])
        code, line = await self.bad("quota", "set", "--user", "u", "messages=1")
        self.assertEqual((code, "no quota 'messages'" in line), (1, True))
        for wrong in (["--client-id", name, "producer_byte_rate=fast"], ["producer_byte_rate=1"], ["--user", "u"]):
            self.assertEqual((await ctl("quota", "set", *wrong))[0], 2)
        await self.good("quota", "remove", "--client-id", name, "producer_byte_rate")
        await self.good("quota", "remove", *both, "request_percentage")
        self.assertEqual([each for each in await self.good_json("quota", "list") if each["client_id"] == name], [])

    async def test_a_topic_from_creation_to_deletion(self) -> None:
        name = fresh("ctl")
        made = await self.good_json("topic", "create", name, "-p", "2", "-r", "1", "-c", "retention.ms=60000")
        self.assertEqual(made, {"name": name, "partitions": 2, "replication": 1, "created": True})
        code, line = await self.bad("topic", "create", name)
        self.assertEqual((code, "TOPIC_ALREADY_EXISTS" in line), (1, True))
        again = await self.good_json("topic", "create", name, "--if-not-exists")
        self.assertFalse(again["created"])
        self.assertIn(name, [row["name"] for row in await self.good_json("topic", "list")])
        await self.good(
            "topic", "alter", name, "-p", "3", "-c", "max.message.bytes=5000", "--delete-config", "retention.ms"
        )
        shown = await self.good_json("topic", "describe", name)
        self.assertEqual(len(shown["partitions"]), 3)
        overrides = {c["name"]: c["value"] for c in shown["configs"] if c["source"] == "topic"}
        self.assertEqual(overrides["max.message.bytes"], "5000")
        self.assertNotIn("retention.ms", overrides)
        everything = await self.good_json("topic", "describe", name, "--all-configs")
        self.assertIn("retention.ms", [c["name"] for c in everything["configs"]])
        await self.good("topic", "delete", name)
        code, line = await self.bad("topic", "describe", name)
        self.assertEqual((code, f"topic '{name}' does not exist" in line), (1, True))

    async def test_lines_come_back_in_order_through_every_codec(self) -> None:
        name = await self.topic()
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory, "lines")
            for number, codec in enumerate(("none", "gzip", "snappy", "lz4", "zstd")):
                file.write_bytes(b"\n".join(LINES))  # no newline at the end
                code, _, err = await ctl("produce", name, str(file), "-z", codec)
                self.assertEqual(code, 0, err)
                self.assertIn("2,000 messages", err)
                start = str(number * len(LINES))
                out = await self.good("consume", name, "-o", start, "-c", "2000")
                self.assertEqual(out, b"\n".join(LINES) + b"\n")

    async def test_stdin_keys_and_headers_as_kcat_reads_them(self) -> None:
        name = await self.topic(3)
        stdin = b"a:1\nb:2\nplain\n:empty\nlast:\n"
        await self.good("produce", name, "-K", ":", "-Z", "-H", "h=v", "-H", "n", stdin=stdin)
        form = "%k|%K|%s|%S|%h\\n"
        seen = (await kcat("-C", "-t", name, "-e", "-q", "-f", form)).splitlines()
        expected = [b"a|1|1|1", b"b|1|2|1", b"|-1|plain|5", b"|-1|empty|5", b"last|4||-1"]
        self.assertEqual(sorted(seen), sorted(line + b"|h=v,n=NULL" for line in expected))

    async def test_formats_equal_kcat(self) -> None:
        name = await self.topic()
        await kcat("-P", "-t", name, "-K:", "-H", "a=1", "-H", "b=", "-H", "c", stdin=b"k1:v1\nnokey\n:emptykey\n")
        await kcat("-P", "-t", name, "-Z", "-K:", stdin=b"nullvalue:\n\xc3\xa9:\xe2\x82\xac\n")
        for form in (
            r"%t|%p|%o|%k|%K|%s|%S|%T|%h|%%|\t|\x41\x4243|\101|\0x42|\q|\\n|%R|\n",
            r"%s\n",
            r"Topic %t [%p] at offset %o: key %k: %s\r\n",
            "no escapes %s é",
            r"\400%%%s%%",
        ):
            ours = await self.good("consume", name, "--from-beginning", "-e", "-f", form)
            self.assertEqual(ours, await kcat("-C", "-t", name, "-o", "beginning", "-e", "-q", "-f", form), form)
        for flag in ("-J", "-K:", "-K\\t"):
            ours = await self.good("consume", name, "--from-beginning", "-e", flag)
            self.assertEqual(ours, await kcat("-C", "-t", name, "-o", "beginning", "-e", "-q", flag), flag)

    async def test_offsets_equal_kcat(self) -> None:
        name = await self.topic(2)
        for partition in ("0", "1"):
            stdin = b"".join(b"%d\n" % i for i in range(20))
            await self.good("produce", name, "-p", partition, stdin=stdin)
        stamps = (await self.good("consume", name, "--from-beginning", "-e", "-p", "1", "-f", r"%T\n")).split()
        last = int(stamps[-1])
        for where in (("-o", "beginning"), ("-o", "7"), ("-o", "-3"), ("-o", f"s@{last}"), ("-o", f"s@{last + 9999}")):
            for only in ((), ("-p", "1")):
                form = r"%p-%o %s\n"
                ours = await self.good("consume", name, *where, *only, "-e", "-f", form)
                theirs = await kcat("-C", "-t", name, *where, *only, "-e", "-q", "-f", form)
                self.assertEqual(sorted(ours.splitlines()), sorted(theirs.splitlines()), where)
        before = await self.good("consume", name, "-o", "beginning", "-o", f"e@{last + 1}", "-p", "1")
        self.assertEqual(len(before.splitlines()), 20)
        self.assertEqual(await self.good("consume", name, "-o", "beginning", "-o", "e@1"), b"")

    async def test_a_group_reads_on_where_it_stopped(self) -> None:
        name, group = await self.topic(), fresh("group")
        await self.good("produce", name, stdin=b"".join(b"%d\n" % i for i in range(100)))
        first = await self.good("consume", name, "-g", group, "--from-beginning", "-c", "30")
        rest = await self.good("consume", name, "-g", group, "-e")
        self.assertEqual([int(line) for line in (first + rest).split()], list(range(100)))
        shown = await self.good_json("group", "describe", group)
        self.assertEqual((shown["state"], shown["members"]), ("Empty", []))
        row = {"topic": name, "partition": 0, "committed": 100, "end": 100, "lag": 0, "member": None}
        self.assertEqual(shown["partitions"], [row])
        self.assertIn(group, [g["group"] for g in await self.good_json("group", "list")])

    async def test_reset_offsets(self) -> None:
        name, group = await self.topic(2), fresh("group")
        for partition in ("0", "1"):
            await self.good("produce", name, "-p", partition, stdin=b"x\n" * 10)
        await self.good("consume", name, "-g", group, "--from-beginning", "-e")

        async def reset(*arguments: str) -> list[tuple[int, int, int]]:
            plan = await self.good_json("group", "reset-offsets", group, *arguments)
            self.assertEqual(plan["executed"], "--execute" in arguments)
            return [(p["partition"], p["current"], p["new"]) for p in plan["partitions"]]

        self.assertEqual(await reset("--to-earliest", "--all-topics"), [(0, 10, 0), (1, 10, 0)])
        self.assertEqual(await reset("--shift-by", "-3", "--topic", f"{name}:1", "--execute"), [(1, 10, 7)])
        self.assertEqual(await reset("--to-latest", "--all-topics"), [(0, 10, 10), (1, 7, 10)])
        self.assertEqual(await reset("--to-offset", "999", "--topic", name), [(0, 10, 10), (1, 7, 10)])
        self.assertEqual(await reset("--by-duration", "1h", "--topic", f"{name}:0"), [(0, 10, 0)])
        self.assertEqual(await reset("--to-datetime", "2100-01-01T00:00:00", "--topic", f"{name}:1"), [(1, 7, 10)])
        lag = [p["lag"] for p in (await self.good_json("group", "describe", group))["partitions"]]
        self.assertEqual(lag, [0, 3])
        await self.good("group", "delete", group)
        code, line = await self.bad("group", "describe", group)
        self.assertEqual((code, "does not exist" in line), (1, True))

    async def test_ctrl_c_commits_and_leaves(self) -> None:
        name, group = await self.topic(), fresh("group")
        await self.good("produce", name, stdin=b"1\n2\n3\n")
        reader = subprocess.Popen(
            command("consume", name, "-g", group, "--from-beginning"), stdout=subprocess.PIPE, env=environment()
        )
        assert reader.stdout is not None
        for _ in range(3):
            await deferToThread(reader.stdout.readline)
        code, line = await self.bad("group", "reset-offsets", group, "--to-earliest", "--topic", name, "--execute")
        self.assertEqual((code, "1 active member: stop them first" in line), (1, True), line)
        await deferToThread(_settle)
        reader.send_signal(signal.SIGINT)
        self.assertEqual(await deferToThread(reader.wait, 20), 130)
        reader.stdout.close()
        shown = await self.good_json("group", "describe", group)
        self.assertEqual((shown["state"], shown["partitions"][0]["committed"]), ("Empty", 3))

    async def test_a_reader_that_goes_away_is_no_error(self) -> None:
        name = await self.topic()
        await self.good("produce", name, stdin=b"\n".join(LINES * 10))
        script = " ".join(command("consume", name, "--from-beginning")) + " | head -1; exit ${PIPESTATUS[0]}"
        done: Any = await deferToThread(
            subprocess.run, ["bash", "-c", script], capture_output=True, timeout=60, env=environment()
        )
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, LINES[0] + b"\n", b""))

    async def test_refusals(self) -> None:
        name = await self.topic()
        code, line = await self.bad("produce", name, "-p", "7", "-q", stdin=b"x\n")
        self.assertEqual((code, "has partitions 0 to 0, there is no 7" in line), (1, True), line)
        code, line = await self.bad("topic", "alter", name, "-c", "no.such.config=1")
        self.assertEqual((code, "INVALID_CONFIG" in line), (1, True), line)
        code, line = await self.bad("topic", "create", "a/b", "-p", "1")
        self.assertEqual((code, "INVALID_TOPIC_EXCEPTION" in line), (1, True), line)
        code, line = await self.bad("group", "delete", fresh("nobody"))
        self.assertEqual((code, "GROUP_ID_NOT_FOUND" in line), (1, True), line)

    async def test_the_cluster(self) -> None:
        shown = await self.good_json("cluster", "describe")
        self.assertTrue(shown["cluster_id"])
        self.assertIn(shown["controller_id"], [broker["id"] for broker in shown["brokers"]])


def _settle() -> None:
    """Let the consumer's next poll begin: what the one before handed out then counts as dealt with."""
    import time

    time.sleep(0.7)


class UnreachableTests(TestCase):
    timeout = 60

    async def test_nobody_listens(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        code, out, err = await ctl("topic", "list", server=address)
        line = f"chronik-ctl: no broker answers at {address}: connection refused. Start one with: twistd -n chronik\n"
        self.assertEqual((code, out, err), (3, b"", line))

    async def test_a_listener_that_never_answers(self) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            code, _, err = await ctl("--timeout", "0.5", "topic", "list", server=address)
        self.assertEqual(code, 4, err)
        self.assertIn(f"the broker at {address} did not answer ApiVersions within 0.5 s", err)

    async def test_help_starts_fast(self) -> None:
        script = "import sys; import chronik.ctl.main; print({'twisted', 'rich', 'yaml', 'asyncio'} & set(sys.modules))"
        done: Any = await deferToThread(
            subprocess.run, [sys.executable, "-c", script], capture_output=True, timeout=30, env=environment("h:1")
        )
        self.assertEqual(done.stdout.strip(), b"set()", "help and completion must not import what only commands need")
