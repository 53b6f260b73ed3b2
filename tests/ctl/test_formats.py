"""Formats, offsets, resets, outputs: what needs no broker."""

from __future__ import annotations

import json
from typing import Any

import click
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.client.errors import ConnectionClosed, RequestTimedOut, Unreachable
from chronik.ctl.consume import parse_offsets
from chronik.ctl.formats import FormatError, Message, format_printer, json_printer, line_printer
from chronik.ctl.main import ctl
from chronik.ctl.output import emit
from chronik.ctl.resets import parse_datetime, parse_duration, parse_topics
from chronik.ctl.runner import Connecting, explain, report
from chronik.errors import ErrorCode, KafkaError

MESSAGE = Message("t", 3, 42, 1700000000123, False, b"k", b"value", (("a", b"1"), ("b", b""), ("c", None)))
EMPTY = MESSAGE._replace(key=None, value=None, headers=(), timestamp=-1)


class FormatTests(SynchronousTestCase):
    def test_every_token(self) -> None:
        self.assertEqual(
            format_printer("%t|%p|%o|%k|%K|%s|%S|%T|%h|%%|%R")(MESSAGE),
            b"t|3|42|k|1|value|5|1700000000123|a=1,b=,c=NULL|%|\x00\x00\x00\x05",
        )

    def test_null_key_and_value(self) -> None:
        self.assertEqual(format_printer("[%k|%K|%s|%S|%R|%h]")(EMPTY), b"[|-1||-1|\xff\xff\xff\xff|]")

    def test_escapes(self) -> None:
        known = {
            r"\n\r\t": b"\n\r\t",
            r"\x41\x4243|": b"AC|",
            r"\0x42|": b"B|",
            r"\101|\400|\012": b"e|\x90|\n",
            r"\q\\n": b"q\\n",
            "a\\": b"a\\",
            r"\x4z": b"\x04z",
            r"%%\n%%": b"%\n%",
            r"\x00": b"\x00",
            "é": "é".encode(),
        }
        for text, expected in known.items():
            self.assertEqual(format_printer(text)(MESSAGE), expected, text)

    def test_unknown_tokens_are_named(self) -> None:
        for text in ("%z", "a%"):
            problem = self.assertRaises(FormatError, format_printer, text)
            self.assertIn("means nothing; the tokens are %s", str(problem))

    @given(st.text(max_size=30))
    def test_any_text_prints_or_is_refused(self, text: str) -> None:
        try:
            printed = format_printer(text)(MESSAGE)
        except FormatError:
            return
        assert isinstance(printed, bytes)

    def test_lines(self) -> None:
        self.assertEqual(line_printer(None)(MESSAGE), b"value\n")
        self.assertEqual(line_printer(r"\t")(MESSAGE), b"k\tvalue\n")
        self.assertEqual(line_printer(":")(EMPTY), b":\n")

    def test_json(self) -> None:
        printed = json_printer(lambda topic, partition: 7)(MESSAGE)
        self.assertEqual(
            printed,
            b'{"topic":"t","partition":3,"offset":42,"tstype":"create","ts":1700000000123,"broker":7,'
            b'"headers":["a","1","b","","c",null],"key":"k","payload":"value"}\n',
        )
        bare = json.loads(json_printer(lambda t, p: -1)(EMPTY._replace(value=b"\xff")))
        self.assertEqual(
            bare, {"topic": "t", "partition": 3, "offset": 42, "broker": -1, "key": None, "payload": "\ufffd"}
        )


class OffsetTests(SynchronousTestCase):
    def parse(self, *values: str) -> tuple[str | None, int, int | None]:
        where = parse_offsets(None, None, values)  # type: ignore[arg-type]
        return where.start, where.number, where.stop_time

    def test_kcat_offsets(self) -> None:
        self.assertEqual(self.parse(), (None, 0, None))
        self.assertEqual(self.parse("beginning"), ("beginning", 0, None))
        self.assertEqual(self.parse("17"), ("offset", 17, None))
        self.assertEqual(self.parse("-5"), ("from-end", 5, None))
        self.assertEqual(self.parse("s@100", "e@200"), ("time", 100, 200))

    def test_faults(self) -> None:
        for values in (("middle",), ("s@x",), ("--5",), ("1", "2"), ("",)):
            self.assertRaises(click.BadParameter, self.parse, *values)


class ResetTests(SynchronousTestCase):
    def test_durations(self) -> None:
        known = {
            "PT1H30M": 5_400_000,
            "P7D": 604_800_000,
            "P1W": 604_800_000,
            "PT0.5S": 500,
            "90m": 5_400_000,
            "5ms": 5,
        }
        for text, expected in known.items():
            self.assertEqual(parse_duration(text), expected, text)
        for text in ("", "P", "PT", "P1DT", "1", "1y", "-5m", "h"):
            self.assertRaises(ValueError, parse_duration, text)

    def test_times(self) -> None:
        self.assertEqual(parse_datetime("1970-01-01T00:00:01"), 1000)
        self.assertEqual(parse_datetime("1970-01-01T01:00:00.250+01:00"), 250)
        self.assertEqual(parse_datetime("1970-01-02"), 86_400_000)
        self.assertRaises(ValueError, parse_datetime, "yesterday")

    def test_topics(self) -> None:
        self.assertEqual(parse_topics(["a", "b:2,0"]), {"a": None, "b": [0, 2]})
        for text in ("", ":1", "a:", "a:x", "a:1,,2"):
            self.assertRaises(ValueError, parse_topics, [text])


class UsageTests(SynchronousTestCase):
    """Wrong usage ends with code 2 before any connection is made."""

    def use(self, *arguments: str) -> Any:
        return CliRunner().invoke(ctl, list(arguments), prog_name="chronik-ctl")

    def test_help_everywhere(self) -> None:
        for path in (
            (),
            ("topic",),
            ("topic", "create"),
            ("produce",),
            ("consume",),
            ("group", "reset-offsets"),
            ("cluster",),
        ):
            result = self.use(*path, "--help")
            self.assertEqual(result.exit_code, 0, result.output)
            self.assertIn("Usage: chronik-ctl", result.output)

    def test_wrong_usage(self) -> None:
        known = {
            ("topic", "create", "t", "-c", "x"): "'x' is not key=value",
            ("topic", "create", "t", "-p", "0"): "0 is not in the range",
            ("topic", "alter", "t"): "nothing to change",
            ("produce", "t", "/no/such/file"): "does not exist",
            ("produce", "t", "-z", "rar"): "'rar' is not one of",
            ("consume", "t", "-f", "%z"): "%z means nothing",
            ("consume", "t", "-o", "stored"): "needs a group",
            ("consume", "t", "-g", "g", "-p", "1"): "the group decides",
            ("consume", "t", "--from-beginning", "-o", "end"): "different starts",
            ("group", "reset-offsets", "g", "--all-topics"): "say where to",
            ("group", "reset-offsets", "g", "--to-latest", "--to-earliest", "--all-topics"): "say where to, once",
            ("group", "reset-offsets", "g", "--to-latest"): "say what to reset",
            ("group", "reset-offsets", "g", "--by-duration", "x", "--all-topics"): "no duration",
            ("-o", "xml", "topic", "list"): "'xml' is not one of",
        }
        for arguments, expected in known.items():
            result = self.use(*arguments)
            self.assertEqual(result.exit_code, 2, result.output)
            self.assertIn(expected, result.output)


class OutputTests(SynchronousTestCase):
    def printed(self, form: str) -> str:
        rows = [
            {"name": "a", "count": 5, "list": [1, 2], "none": None},
            {"name": "long", "count": 12, "list": [], "none": None},
        ]

        @click.command()
        def show() -> None:
            emit(form, rows, [("Title", ("name", "count", "list", "none"), rows)])

        return str(CliRunner().invoke(show).output)

    def test_a_table_without_colour_off_a_terminal(self) -> None:
        expected = "Title\nNAME  COUNT  LIST  NONE\na         5  1,2      -\nlong     12           -\n"
        self.assertEqual(self.printed("table"), expected)

    def test_json_and_yaml(self) -> None:
        import yaml

        self.assertEqual(json.loads(self.printed("json"))[1]["count"], 12)
        self.assertEqual(yaml.safe_load(self.printed("yaml")), json.loads(self.printed("json")))


class ReportTests(SynchronousTestCase):
    def reported(self, problem: BaseException, bootstrap: str = "127.0.0.1:9092") -> tuple[int, str]:
        code = -1

        @click.command()
        def fail() -> None:
            nonlocal code
            code = report(problem, Connecting(bootstrap))

        result = CliRunner().invoke(fail)
        return code, result.stderr

    def test_lines_and_codes(self) -> None:
        refused = Unreachable("no broker answers at 127.0.0.1:9092: connection refused")
        self.assertEqual(
            self.reported(refused),
            (
                3,
                "chronik-ctl: no broker answers at 127.0.0.1:9092: connection refused. "
                "Start one with: twistd -n chronik\n",
            ),
        )
        self.assertIn("Check the address", self.reported(refused, "kafka.example:9092")[1])
        self.assertEqual(self.reported(RequestTimedOut("slow"))[0], 4)
        self.assertEqual(self.reported(ConnectionClosed("gone\nfar"))[1], "chronik-ctl: gone far\n")
        code, line = self.reported(ZeroDivisionError("oops"))
        self.assertEqual(code, 1)
        self.assertIn("internal error: ZeroDivisionError: oops", line)
        self.assertEqual(
            self.reported(FileNotFoundError(2, "No such file", "x.txt")), (1, "chronik-ctl: x.txt: No such file\n")
        )

    def test_refusals_say_what_to_do(self) -> None:
        unknown = KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "topic 'x'")
        self.assertEqual(
            explain(unknown, "h:1"),
            "topic 'x' does not exist. See: chronik-ctl topic list (UNKNOWN_TOPIC_OR_PARTITION from h:1)",
        )
        told = KafkaError(ErrorCode.INVALID_CONFIG, "retention.ms must be a number.")
        self.assertEqual(explain(told, "h:1"), "retention.ms must be a number (INVALID_CONFIG from h:1)")
