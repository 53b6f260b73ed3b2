"""What the benchmarks of search say: bars that hold, that don't, and that cannot be shown."""

from __future__ import annotations

from xml.dom.minidom import parseString

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import corpus
from benchmarks.figures import pooled
from benchmarks.search.plot import plot
from benchmarks.search.report import PARTS
from benchmarks.search.timing import histogram

SECTIONS = dict(PARTS)


def window(milliseconds, calls=1000, steal=0.0, seconds=100.0, **more):
    report = {"seconds": seconds, "calls": calls, "histogram": [[int(milliseconds * 1000), calls]], **more}
    return {"report": report, "steal": steal, "broker_cpu": 1.0}


def cell_of_queries(messages, milliseconds, steal=0.0, index_share=0.05):
    query = {
        "text": "a|b", "hits": 10, "failed": 0, "costs": {"scanned_blocks": 1, "blocks": 5},
        "windows": [window(milliseconds, steal=steal)], "counting": window(7),
    }  # fmt: skip
    return {
        "messages": messages, "fed": messages, "feed_seconds": 10.0, "drain_seconds": 0.1, "raw_bytes": messages * 177,
        "log_bytes": messages * 70, "index_bytes": int(messages * 177 * index_share),
        "queries": {each.name: query for each in corpus.QUERIES},
    }  # fmt: skip


class SectionTests(SynchronousTestCase):
    def said(self, part, *cells):
        return "\n".join(SECTIONS[part](list(cells)))

    def test_queries(self):
        for milliseconds, rare, phrase in (
            (49, "holds", "holds"),
            (51, "**does not hold**", "holds"),
            (501, "**does not hold**", "**does not hold**"),
        ):
            said = self.said("search-queries", cell_of_queries(10_000_000, milliseconds))
            self.assertIn(f"- rare term: p99 below 50 ms {rare}\n", said)
            self.assertIn(f"- phrase: p99 below 500 ms {phrase}\n", said)
            self.assertIn("- regex without a literal: reported\n", said)
        said = self.said("search-queries", cell_of_queries(10_000_000, 1, steal=0.02))
        self.assertIn("- error: not shown, too few quiet calls", said)

    def test_growth(self):
        for before, after, holds in ((10, 20, "holds"), (10, 21, "**does not hold**")):
            said = self.said("search-queries", cell_of_queries(10_000_000, before), cell_of_queries(50_000_000, after))
            self.assertIn(f"- rare term at 50,000,000: {after / 10:.2f} x that at 10,000,000; at most 2 {holds}", said)
            self.assertIn(f"rare term {(after - before) * 2.5:.1f}, error", said)
        for share, holds in ((0.07, "holds"), (0.08, "**does not hold**")):
            said = self.said("search-queries", cell_of_queries(1_000_000, 1, index_share=share))
            self.assertIn(f"(the corpus's mean of 177 B a message): {holds}", said)

    def test_freshness(self):
        def cell(**options):
            return {"rate": 50_000, "reached": 49_990.0, "windows": [{**window(**options), "queries": 1500}]}

        self.assertIn("100 ms: holds", self.said("search-freshness", cell(milliseconds=20)))
        self.assertIn("100 ms: **does not hold**", self.said("search-freshness", cell(milliseconds=21)))
        self.assertIn("too few quiet windows", self.said("search-freshness", cell(milliseconds=1, seconds=59.0)))
        self.assertIn("| 1.50 |", self.said("search-freshness", cell(milliseconds=1)))

    def test_produce(self):
        def saturated(on, off):
            rates = {"on": on, "off": off}
            windows = {name: [window(1, messages_per_second=rate)] * 2 for name, rate in rates.items()}
            return {"windows": windows, "lags": [1, 5], "drains": [{"lag": 3, "drain_seconds": 0.5}]}

        self.assertIn("at least 0.9 holds", self.said("search-produce", saturated(91.0, 100.0)))
        self.assertIn("at least 0.9 **does not hold**", self.said("search-produce", saturated(89.0, 100.0)))

        def fixed(milliseconds, lags):
            windows = {"on": [window(milliseconds, messages=20_000_000)]}
            return {"rate": 200_000, "windows": windows, "lags": lags, "drain_seconds": 0.1}

        for lags, milliseconds, holds in (
            ([200_000], 9, "holds"),
            ([200_001], 9, "**does not hold**"),
            ([1], 10, "**does not hold**"),
            ([], 9, "**does not hold**"),
        ):
            self.assertIn(f"lag at most 1 s: {holds}", self.said("search-produce", fixed(milliseconds, lags)))

    def test_beside_others_what_is_not_asked_is_a_dash(self):
        cell = {
            "name": "x", "what": "y", "messages": 1000, "feed_seconds": 1.0, "cpu_seconds": 1.0, "disk_bytes": 5e6,
            "queries": {"error": window(3)},
        }  # fmt: skip
        self.assertIn(
            "| x | 1.0 | 1.0 | 5 | - | 3.00 / 3.00 | - | - | - | - | - | - |", self.said("search-beside", cell)
        )


class FigureTests(SynchronousTestCase):
    def test_latencies_are_kept_to_three_digits(self):
        kept = histogram([5, 999, 1234, 1239, 123_456, 5])
        self.assertEqual(kept, [[5, 2], [999, 1], [1230, 1], [1240, 1], [123_000, 1]])
        self.assertEqual(pooled([{"report": {"histogram": kept}}], 0.5), 1.23)

    def test_the_plot(self):
        svg = plot({"a<b": [(1e6, 2.0), (1e7, 30.0)], "c": [(1e6, 5.0)]}, "messages", "ms")
        texts = [node.firstChild.data for node in parseString(svg).getElementsByTagName("text")]
        self.assertEqual(texts, ["1 M", "10 M", "1", "10", "100", "a<b", "c", "messages", "ms"])
        circles = parseString(svg).getElementsByTagName("circle")
        heights = [float(circle.getAttribute("cy")) for circle in circles]
        self.assertGreater(heights[0], heights[2])
        self.assertGreater(heights[2], heights[1])
