"""Dates: ISO texts, date math, rounding, time zones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.search.dates import (
    MAX_MS,
    MIN_MS,
    format_date,
    is_date,
    next_start,
    parse_date,
    parse_zone,
    resolve_date,
    round_down,
)
from chronik.search.query import QueryError
from tests.search import oracle
from tests.search.records import DAY, NOW

HOUR = 3_600_000
ZONES = ["", "Z", "+02:00", "-0330", "+05"]


def ms(text):
    return int(datetime.fromisoformat(text).timestamp() * 1000)


class DateTests(SynchronousTestCase):
    @given(
        st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)),
        st.integers(4, 30),
        st.sampled_from(["", "Z", "+02:00", "-0330", "+05"]),
    )
    def test_iso_texts_as_the_oracle_reads_them(self, moment, size, zone):
        text = moment.isoformat()[:size] + zone
        found = oracle.instants(text)
        self.assertEqual(parse_date(text), None if found is None else found[0], text)
        if found is not None:
            self.assertEqual((resolve_date(text, 0), resolve_date(text, 0, round_up=True)), found, text)

    @given(st.integers(MIN_MS, MAX_MS))
    def test_what_is_written_reads_back(self, when):
        self.assertEqual(parse_date(format_date(when)), when)
        if MIN_MS + DAY < when < MAX_MS - DAY:
            self.assertEqual(parse_date(format_date(when, parse_zone("+05:30"))), when)

    def test_math(self):
        for text, down, up in (
            ("now", NOW, NOW),
            ("now-1h", NOW - HOUR, NOW - HOUR),
            ("now+90s", NOW + 90_000, NOW + 90_000),
            ("now-d", NOW - DAY, NOW - DAY),
            ("now/d", NOW - 12 * HOUR, NOW + 12 * HOUR - 1),
            ("now/h", NOW, NOW + HOUR - 1),
            ("now-1d/d", NOW - 36 * HOUR, NOW - 12 * HOUR - 1),
            ("now-1M/M", ms("2025-12-01T00:00+00:00"), ms("2026-01-01T00:00+00:00") - 1),
            ("now/y+1M", ms("2026-02-01T00:00+00:00"), None),
            ("now/w", ms("2025-12-29T00:00+00:00"), ms("2026-01-05T00:00+00:00") - 1),
            ("2024-02-29||+1y", ms("2025-02-28T00:00+00:00"), ms("2025-02-28T00:00+00:00")),
            ("2024-01-31||+1M", ms("2024-02-29T00:00+00:00"), ms("2024-02-29T00:00+00:00")),
            ("2024-01-31||/M", ms("2024-01-01T00:00+00:00"), ms("2024-02-01T00:00+00:00") - 1),
            ("2024-03||-2w", ms("2024-02-16T00:00+00:00"), None),
            ("1767268800000||-1d", NOW - DAY, NOW - DAY),
            ("500", 500, 500),
            ("-1", -1, -1),
            ("9999", ms("9999-01-01T00:00+00:00"), MAX_MS),
            ("9999-12-31", ms("9999-12-31T00:00+00:00"), MAX_MS),
        ):
            self.assertEqual(resolve_date(text, NOW), down, text)
            if up is not None:
                self.assertEqual(resolve_date(text, NOW, round_up=True), up, text)

    def test_what_is_no_date(self):
        # fmt: off
        for text in (
            "", "now-", "now-1", "now-1x", "now/", "nowish", "2026-13-01", "2026-02-30", "2026-1-1", "tomorrow", "--1",
            "x||+1d", "now" + "+1d" * 40, "now-999999999y", "9999-12-31||+1M", "0000-01", "٢٠٢٦", "2026-01-01||x", "1" * 20,
        ):
            self.assertRaises(QueryError, resolve_date, text, NOW)
        for text in (
            "2026-01-01T", "2026-01-01T25:00", "2026-01-01T10:00:00.", "2026-01-01T10:00+19:00", "2026-01-01x", "123x", "now",
        ):
            self.assertIsNone(parse_date(text), text)
        # fmt: on

    def test_what_looks_like_a_date(self):
        for text, looks in {"now": 1, "now-1d/d": 1, "2026-01-01": 1, "2026-01": 1, "2026": 0, "17": 0, "x-1": 0, "nowhere": 0,
                            "2026-01-01||+1d": 1, "2026-01-01||x": 0, "-5": 0, "12345-1": 0}.items():  # fmt: skip
            self.assertEqual(is_date(text), bool(looks), text)

    def test_zones(self):
        berlin = parse_zone("Europe/Berlin")
        self.assertEqual(resolve_date("2026-03-29", 0, zone=berlin), ms("2026-03-28T23:00+00:00"))
        self.assertEqual(
            resolve_date("2026-03-29", 0, True, berlin), ms("2026-03-29T22:00+00:00") - 1
        )  # a day of 23 hours
        self.assertEqual(resolve_date("2026-03-28T12:00||+1d", 0, zone=berlin), ms("2026-03-29T10:00+00:00"))
        self.assertEqual(format_date(NOW, berlin), "2026-01-01T13:00:00.000+01:00")
        self.assertEqual(format_date(NOW, parse_zone("-03:30")), "2026-01-01T08:30:00.000-03:30")
        self.assertEqual(format_date(1 << 62), str(1 << 62))
        for text in ("", "Mars", "+25:00", "+1", "/etc/passwd", "../x", "Europe", "\x00", "é" * 300):
            self.assertRaises(QueryError, parse_zone, text)

    @given(st.integers(ms("1990-01-01T00:00+00:00"), ms("2050-01-01T00:00+00:00")), st.sampled_from("smhdwMqy"))
    def test_units_tile_time(self, when, unit):
        for zone in (UTC, parse_zone("Europe/Berlin"), parse_zone("America/St_Johns"), parse_zone("+05:45")):
            first = round_down(when, unit, zone)
            after = next_start(first, unit, zone)
            self.assertTrue(first <= when, (unit, zone))
            self.assertTrue(when < after or (unit == "h" and zone not in (UTC,)), (unit, zone))
            self.assertEqual(round_down(first, unit, zone), first)
            self.assertEqual(round_down(when, unit, zone, to_end=True), after - 1)

    def test_fractions_count_down(self):
        self.assertEqual(parse_date("1969-12-31T23:59:59.9999Z"), -1)
        self.assertEqual(parse_date("2026-01-01 12:00:00,123456789Z"), NOW + 123)
        self.assertEqual(timedelta(milliseconds=parse_date("2026-01-01T12:00:00.5Z") - NOW), timedelta(seconds=0.5))
