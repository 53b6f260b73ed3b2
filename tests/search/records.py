"""Random records and queries over the same few words, names, numbers and dates, so that queries find something."""

from __future__ import annotations

import json
import re

import re2
from hypothesis import strategies as st

from chronik.search import query as q
from chronik.search.document import Document, all_leaves
from chronik.search.mapping import parse_mapping
from tests.search.queries import leaves, trees

NOW = 1_767_268_800_000  # 2026-01-01T12:00:00Z
DAY = 86_400_000

# fmt: off
WORDS = [
    "error", "Error", "ERR", "errors", "order", "a", "b", "17", "250", "é", "E\u0301", "\u00c9", "\u212aey", "key", "İd", "id",
    "\u0391\u03a3", "\u03b1\u03c2", "\u03b1\u03c3", "true", "x" * 300, "x" * 255, "x" * 254, "ß", "٣", "Ⅷ", "n",
]
SEPARATORS = [" ", "  ", "-", "/", ".", ":", "_", "\n", '"', "\\", "\u0301", "¼ ", "=", "\ufffd", "\x00", ",", "\u2028"]
NAMES = ["a", "b", "a.b", "b.c", "user", "id", "Key", "level", "msg", "naïve", "key", "timestamp", "keyword", "x\\y"]
PATHS = ["a", "b", "a.b", "a.b.c", "b.c", "user.id", "level", "msg", "naïve", "Key", "user", "value.key", "value.timestamp"]
FIELDS = [
    *PATHS, "value", "key", "headers.h", "headers.h.i", "headers", "timestamp", "offset", "partition", "topic", "a.keyword",
    "value.keyword", "key.keyword", "level.keyword", "headers.h.keyword", "msg.keyword", "a.b.keyword",
]
NUMBERS = [
    "0", "-0", "17", "250", "250.0", "250.50", "-250", "2.5e2", "25E1", "0.1", "0.10", "1e-1", "1e400", "9007199254740993",
    "9007199254740992", "123456789012345678901234567890", "249.99999999999999999", "1e999999", "0.30000000000000004",
]
REGEXPS = [
    "err", "^err", "(?i)ERROR$", "e.*r", "a|b", "[0-9]+", "order-\\d", "^$", "(?i)é", "é", "\\bid\\b", "x{3}", "a.b", "^a$",
    "\\.", "rror ", "error[ -]a", "(error|order) ", "^error ", "/", "\\x00", "[^a]", "-(17|250)", "(?:a b)+", "a b c?",
    "error-?17",
]
# fmt: on
DATES = {  # text: the first instant it may be, the last one
    "2026-01-01": (NOW - DAY // 2, NOW + DAY // 2 - 1),
    "2026-01-01T12:00:00Z": (NOW, NOW + 999),
    "2026-01-01T12:00:00.000Z": (NOW, NOW),
    "2026-01-01T14:00:00.0005+02:00": (NOW, NOW),
    "2025-12": (NOW - 31 * DAY - DAY // 2, NOW - DAY // 2 - 1),
}
INSTANTS = {
    **DATES,
    "now": (NOW, NOW),
    "now-1d": (NOW - DAY, NOW - DAY),
    "now/d": DATES["2026-01-01"],
    "2026-01-01||+1d/d": (NOW + DAY // 2, NOW + DAY + DAY // 2 - 1),
}
TIMES = [
    -1,
    0,
    NOW,
    NOW - 1,
    NOW + 1,
    NOW - DAY,
    NOW - DAY // 2,
    NOW + DAY // 2 - 1,
    NOW + DAY // 2,
    -(1 << 60),
    1 << 62,
]

words = st.sampled_from(WORDS)
texts = st.lists(st.one_of(words, st.sampled_from(SEPARATORS)), max_size=5).map("".join)
spaced = st.lists(words, max_size=4).map(" ".join)
strings = st.one_of(
    texts,
    spaced,
    st.sampled_from([*NUMBERS, *DATES, "true", "false", "1767268800000", "2026", "", "0250", "+5", " 250"]),
)


class Verbatim(float):
    """A number that json.dumps writes as it was given."""

    def __new__(cls, text):
        made = float.__new__(cls, "nan")
        made.text = text
        return made

    def __repr__(self):
        return self.text


def dumped(tree, escaped):
    """JSON of a tree whose numbers are texts in a Verbatim."""
    if isinstance(tree, Verbatim):
        return tree.text
    if isinstance(tree, dict):
        return (
            "{"
            + ", ".join(f"{json.dumps(k, ensure_ascii=escaped)}:{dumped(v, escaped)}" for k, v in tree.items())
            + "}"
        )
    if isinstance(tree, list):
        return "[" + ",".join(dumped(each, escaped) for each in tree) + "]"
    text = json.dumps(tree, ensure_ascii=escaped)
    return text.replace("/", "\\/") if escaped else text


scalars = st.one_of(strings, st.sampled_from(NUMBERS).map(Verbatim), st.booleans(), st.none())
trees_of_json = st.recursive(
    scalars, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)),
    max_leaves=10,
)  # fmt: skip
objects = st.dictionaries(st.sampled_from(NAMES), trees_of_json, max_size=5)
json_values = st.builds(
    dumped, st.one_of(objects, objects, st.lists(objects, max_size=3), trees_of_json), st.booleans()
)


@st.composite
def logfmt_values(draw):
    """Lines with pairs in them, most of them as logfmt would be."""
    parts = []
    for _ in range(draw(st.integers(0, 4))):
        name = draw(st.sampled_from([*NAMES, "user.id", "a.b.c", "9x", "_"]))
        text = draw(strings)
        form = draw(st.sampled_from(["bare", "quoted", "escaped", "text"]))
        if form == "bare":
            parts.append(f"{name}={text}")
        elif form == "quoted":
            parts.append(f'{name}="{text}"')
        elif form == "escaped":
            parts.append(f"{name}={json.dumps(text)}")
        else:
            parts.append(text)
    return draw(st.sampled_from([" ", ", ", "; ", "(", "["])).join(parts)


@st.composite
def damaged(draw, values):
    """Bytes that were a value until one was changed, or some were left out."""
    value = bytearray(draw(values).encode())
    if value:
        at = draw(st.integers(0, len(value) - 1))
        if draw(st.booleans()):
            value[at] = draw(st.sampled_from(b'\xff\xc3\x00{"}[a\\'))
        else:
            del value[at : at + draw(st.integers(1, 3))]
    return bytes(value)


plain = st.one_of(json_values, json_values, logfmt_values(), spaced, texts, strings)
values = st.one_of(plain.map(str.encode), plain.map(str.encode), damaged(plain), st.binary(max_size=12), st.none())
keys = st.one_of(st.none(), strings.map(str.encode), st.sampled_from([b"order-17", b"\xff", b"order-\xff", b""]))
headers = st.lists(
    st.tuples(
        st.sampled_from(["h", "h.i", "error"]), st.one_of(st.none(), strings.map(str.encode), st.just(b"\xfferror"))
    ),
    max_size=3,
)
documents = st.builds(Document, st.integers(0, 30), st.sampled_from(TIMES), keys, values, headers)

query_texts = st.one_of(words, spaced, strings, st.sampled_from([*INSTANTS, "order-17", "/a", "error order"]))
bounds = st.one_of(st.sampled_from([*NUMBERS, *INSTANTS, "a", "b", "error", "Z"]), strings)
leaf_queries = leaves(st.sampled_from(FIELDS), query_texts, st.sampled_from(REGEXPS), bounds)
queries = trees(leaf_queries, max_leaves=5)

mappings = st.sampled_from(
    [
        {},
        {"a": {"type": "keyword"}, "level": {"type": "text"}, "key": {"type": "keyword"}},
        {"a": {"type": "long"}, "user": {"properties": {"id": {"type": "double"}}}, "headers.h": {"type": "long"}},
        {"a": {"type": "date"}, "msg": {"type": "boolean"}, "level": {"type": "date", "format": "epoch_second"}},
        {
            "a.b": {"type": "keyword"},
            "msg": {"type": "text"},
            "key": {"type": "date"},
            "headers.h": {"type": "boolean"},
        },
    ]
).map(lambda properties: parse_mapping({"properties": properties}))


@st.composite
def aimed(draw):
    """A clause made from a value of one of the records, and the records: it finds something more often than not."""
    records = draw(st.lists(documents, min_size=1, max_size=6))
    record = draw(st.sampled_from(records))
    choices = [
        ("value", record.value),
        ("value.keyword", record.value),
        ("key", record.key),
        ("key.keyword", record.key),
    ]
    choices += [(f"headers.{name}", content) for name, content in record.headers] + [
        ("headers", v) for _, v in record.headers
    ]
    choices = [(name, content.decode("utf-8", "replace")) for name, content in choices if content is not None]
    choices += [("offset", str(record.offset)), ("timestamp", str(record.timestamp)), ("topic", "events")]
    leaf = [(path, _text(leaf)) for path, leaf in all_leaves(record.tree, 20)]
    choices += (
        leaf * 3 + [(f"{path}.keyword", text) for path, text in leaf] + [(f"value.{path}", text) for path, text in leaf]
    )
    field, text = draw(st.sampled_from(choices))
    text = draw(st.sampled_from([text, text, text.swapcase()]))
    start = draw(st.integers(0, min(len(text), 20)))
    part = text[start : start + draw(st.integers(1, 12))]
    kind = draw(
        st.sampled_from(
            ["term", "part", "words", "any", "wildcard", "middle", "word*", "regexp", "range", "open", "exists"]
        )
    )
    known = re.findall(r"\w+", part) or ["a"]
    query = {
        "term": lambda: q.Term(field, text),
        "part": lambda: q.Term(field, part, draw(st.integers(0, 3)), draw(st.booleans())),
        "words": lambda: q.Term(field, " ".join(draw(st.permutations(known[:5]))), draw(st.integers(0, 6))),
        "any": lambda: q.any_term(field, [text, part, draw(query_texts), *known]),
        "wildcard": lambda: q.wildcard(field, _wild(draw, text)),
        "middle": lambda: q.wildcard(field, "*" + q.literal_pattern(part) + "*"),
        "word*": lambda: q.wildcard(field, _wild(draw, draw(st.sampled_from(known)))),
        "regexp": lambda: q.regexp(
            field, draw(st.sampled_from(["", "^"])) + re2.escape(part) + draw(st.sampled_from(["", "$"]))
        ),
        "range": lambda: q.between(
            field, *sorted([text, draw(st.sampled_from([part, text, "250", "0", "zz"]))]), *draw(_two)
        ),
        "open": lambda: q.between(field, *draw(st.sampled_from([(None, text), (text, None)])), *draw(_two)),
        "exists": lambda: q.Exists(field.rpartition(".")[0] if draw(st.booleans()) and "." in field else field),
    }[kind]()
    return query, records


_two = st.tuples(st.booleans(), st.booleans())


def _text(leaf):
    return ("false", "true")[leaf] if isinstance(leaf, bool) else str(leaf)


def _wild(draw, text):
    """The text with a part or two of it left out for a `*`, or a character for a `?`."""
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, min(len(text), 30)))
        size = draw(st.sampled_from([0, 1, 2, 5]))
        wild = "\ue000" if draw(st.booleans()) or size != 1 else "\ue001"
        text = text[:at] + wild + text[at + size :]
    return q.literal_pattern(text).replace("\ue000", "*").replace("\ue001", "?")
