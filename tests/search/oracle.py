"""What a hit is, a second time: slow and plain, written from docs/search.md and not from `chronik.search.match`.

Regular expressions are Python's (tests use those that mean the same in RE2); dates are those of a table in
`tests.search.records`.
"""

from __future__ import annotations

import itertools
import json
import re
import unicodedata
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache

from chronik.search import query as q
from tests.search.records import INSTANTS


class Refused(Exception):
    """The query doesn't fit the fields."""


# Words


def lower(char):
    return "i" if char == "\u0130" else char.lower()


def category(char):
    return unicodedata.category(char)[0]


def tokens(text):
    return list(_tokens(text))


@lru_cache(maxsize=50_000)  # one query asks for them again and again
def _tokens(text):
    found, run = [], ""
    for char in text + " ":
        if category(char) in "LN" or (category(char) == "M" and run):
            run += lower(char)
        elif run:
            while len(run.encode()) > 255:
                run = run[:-1]
            found.append(run)
            run = ""
    return found


def has_words(text, wanted, slop=0, prefix=False):
    found = tokens(text)
    if not wanted or len(wanted) > 6:
        return bool(wanted) and any(
            found[i : i + len(wanted) - 1] == wanted[:-1]
            and len(found) > i + len(wanted) - 1
            and (
                found[i + len(wanted) - 1].startswith(wanted[-1])
                if prefix
                else found[i + len(wanted) - 1] == wanted[-1]
            )
            for i in range(len(found))
        )
    fits = [
        [
            i
            for i, word in enumerate(found)
            if (word.startswith(want) if prefix and n == len(wanted) - 1 else word == want)
        ]
        for n, want in enumerate(wanted)
    ]
    for taken in itertools.product(*fits):
        ways = [place - n for n, place in enumerate(taken)]
        if len(set(taken)) == len(taken) and max(ways) - min(ways) <= slop:
            return True
    return False


# Values


def no_constant(text):
    raise ValueError(text)


@lru_cache(maxsize=50_000)
def parsed(value):
    """The leaves of a value with their dotted paths, and whether it is unparsed."""
    if value is None:
        return [], False
    start = value.lstrip(b" \t\r\n")[:1]
    if start in (b"{", b"["):
        try:
            tree = json.loads(value.decode("utf-8"), parse_float=Decimal, parse_constant=no_constant)
        except (ValueError, RecursionError, InvalidOperation):
            if start == b"{":
                return [], True
        else:
            if "\ud800" <= max(json.dumps(str(tree), ensure_ascii=False)) <= "\udfff" or has_surrogate(tree):
                return ([], True) if start == b"{" else (logfmt(value), False)
            return list(flattened("", tree)), False
    return logfmt(value), False


def has_surrogate(tree):
    if isinstance(tree, dict):
        return any(has_surrogate(k) or has_surrogate(v) for k, v in tree.items())
    if isinstance(tree, list):
        return any(map(has_surrogate, tree))
    return isinstance(tree, str) and any("\ud800" <= char <= "\udfff" for char in tree)


def flattened(path, node):
    if isinstance(node, dict):
        for name, child in node.items():
            yield from flattened(f"{path}.{name}" if path is not None and path != "" else name, child)
    elif isinstance(node, list):
        for child in node:
            yield from flattened(path, child)
    elif node is not None:
        yield path, node


NAME_START = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_@"
NAME_PART = NAME_START + "0123456789.-/"


def logfmt(value):
    text = value.decode("utf-8", "replace")
    found, i = [], 0
    while i < len(text):
        if text[i] in NAME_START and (i == 0 or text[i - 1].isspace() or text[i - 1] in ",;([{"):
            end = i
            while end < len(text) and text[end] in NAME_PART:
                end += 1
            if end < len(text) and text[end] == "=":
                closed = closing_quote(text, end + 1)
                if closed is not None:
                    found.append((text[i:end], unescaped(text[end + 2 : closed])))
                    i = closed + 1
                else:
                    stop = end + 1
                    while stop < len(text) and not text[stop].isspace():
                        stop += 1
                    found.append((text[i:end], text[end + 1 : stop].rstrip(",;)]}")))
                    i = stop
                continue
            i += 1
            continue
        i += 1
    return found


def closing_quote(text, start):
    if text[start : start + 1] != '"':
        return None
    i = start + 1
    while i < len(text):
        if text[i] == '"':
            return i
        i += 2 if text[i] == "\\" else 1
    return None


def unescaped(text):
    out, i = "", 0
    short = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "/": "/"}
    while i < len(text):
        if text[i] == "\\" and text[i + 1 : i + 2] in short and i + 1 < len(text):
            out += short[text[i + 1]]
            i += 2
        elif re.match(r"\\u[0-9a-fA-F]{4}", text[i:]):
            code = int(text[i + 2 : i + 6], 16)
            low = re.match(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})", text[i + 6 :])
            if 0xD800 <= code < 0xDC00 and low:
                out += chr(0x10000 + (code - 0xD800) * 1024 + int(low[1], 16) - 0xDC00)
                i += 12
            else:
                out += "\ufffd" if 0xD800 <= code < 0xE000 else chr(code)
                i += 6
        else:
            out += text[i]
            i += 1
    return out


def kind_of(name, mapping):
    """(where, path, kind, seconds)"""
    builtin = {
        "value": ("value", "text"),
        "headers": ("headers", "dynamic"),
        "timestamp": ("timestamp", "date"),
        "offset": ("offset", "number"),
        "partition": ("partition", "number"),
        "topic": ("topic", "keyword"),
    }
    if name in builtin:
        return builtin[name][0], "", builtin[name][1], False
    said = mapping.fields.get(name)
    if said is None and name.endswith(".keyword"):
        where, path, kind, seconds = kind_of(name[: -len(".keyword")], mapping)
        return where, path, kind if where in ("timestamp", "offset", "partition", "topic") else "keyword", False
    kind, seconds = ("dynamic", False) if said is None else (said.kind, said.seconds)
    if name == "key":
        return "key", "", kind, seconds
    if name.startswith("headers."):
        return "header", name[8:], kind, seconds
    if name.startswith("value."):
        inner = name[6:]
        if inner in builtin or inner == "key" or inner.startswith("headers."):
            return "path", inner, "dynamic", False
        return "path", inner, *kind_of(inner, mapping)[2:]
    return "path", name, kind, seconds


def values_of(where, path, record, topic, partition):
    def text(raw):
        return raw.decode("utf-8", "replace")

    if where == "value":
        return [] if record.value is None else [text(record.value)]
    if where == "key":
        return [] if record.key is None else [text(record.key)]
    if where in ("header", "headers"):
        return [text(v) for k, v in record.headers if v is not None and (where == "headers" or k == path)]
    if where == "timestamp":
        return [] if record.timestamp == -1 else [record.timestamp]
    if where == "path":
        return [leaf for name, leaf in parsed(record.value)[0] if name == path]
    return [{"offset": record.offset, "partition": partition, "topic": topic}[where]]


# Conditions


def number_of_query(text):
    if not re.fullmatch(r"[+-]?\d+(\.\d+)?([eE][+-]?\d{1,4})?", text, re.ASCII) or len(text) > 1000:
        return None
    return Decimal(text)


def as_number(value):
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return (
            Decimal(value) if re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?", value, re.ASCII) and len(value) <= 1000 else None
        )
    return Decimal(value)


def as_text(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return format(value, "f") if -1000 <= value.adjusted() < 1000 else ""
    return str(value)


def instants(text):
    """The first and the last instant of an ISO date, in ms, or None."""
    zone = timedelta()
    base = text
    if len(text) > 11 and text[10] in "T ":
        sign = max(text.rfind("+"), text.rfind("-", 11))
        if text.endswith("Z"):
            base = text[:-1]
        elif sign > 0:
            digits = text[sign + 1 :].replace(":", "", 1) if text[sign + 3 : sign + 4] == ":" else text[sign + 1 :]
            if not (digits.isascii() and digits.isdecimal() and len(digits) in (2, 4)):
                return None
            hours, minutes = int(digits[:2]), int(digits[2:] or 0)
            if hours > 18 or minutes > 59:
                return None
            base, zone = text[:sign], timedelta(hours=hours, minutes=minutes) * (-1 if text[sign] == "-" else 1)
        if len(base) < 13:
            return None
    base = base.replace(",", ".")
    whole, point, fraction = base.partition(".")
    formats = {4: "%Y", 7: "%Y-%m", 10: "%Y-%m-%d", 13: "%Y-%m-%dT%H", 16: "%Y-%m-%dT%H:%M", 19: "%Y-%m-%dT%H:%M:%S"}
    shape = "".join("0" if char in "0123456789" else char for char in whole)
    if len(whole) not in formats or shape not in (
        "0000-00-00T00:00:00"[: len(whole)],
        "0000-00-00 00:00:00"[: len(whole)],
    ):
        return None
    if point and not (len(whole) == 19 and fraction.isascii() and fraction.isdecimal() and len(fraction) <= 9):
        return None
    try:
        first = datetime.strptime(whole.replace(" ", "T"), formats[len(whole)])
    except ValueError:
        return None
    if len(whole) <= 10 and "9999-12-31".startswith(whole):
        last = datetime.max
    elif len(whole) <= 7:
        later = first.year * 12 + first.month - 1 + (12 if len(whole) == 4 else 1)
        last = datetime(later // 12, later % 12 + 1, 1)
    else:
        last = first + timedelta(
            **{10: {"days": 1}, 13: {"hours": 1}, 16: {"minutes": 1}, 19: {"seconds": 1}}[len(whole)]
        )
    low, high = ((moment - zone - datetime(1970, 1, 1)) // timedelta(milliseconds=1) for moment in (first, last))
    if point:
        return low + int(fraction.ljust(3, "0")[:3]), low + int(fraction.ljust(3, "0")[:3])
    return low, high if last == datetime.max else high - 1


def as_instant(value, seconds=False):
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        found = instants(value)
        if found is not None:
            return found[0]
        return int(value) * (1000 if seconds else 1) if re.fullmatch(r"-?\d{5,17}", value, re.ASCII) else None
    if abs(value) > 10**29:
        return None
    return int((Decimal(value) * (1000 if seconds else 1)).to_integral_value("ROUND_FLOOR"))


def instant_of_query(text, seconds=False):
    found = INSTANTS.get(text) or instants(text)
    if found is None and re.fullmatch(r"-?\d{1,18}", text, re.ASCII):
        return (int(text) * (1000 if seconds else 1),) * 2
    return found


def looks_like_date(text):
    return text in INSTANTS or is_iso(text)


def is_iso(text):
    return (text in INSTANTS and not text.startswith("now")) or ("-" in text[4:] and instants(text) is not None)


def required(value, reason):
    if value is None:
        raise Refused(reason)
    return value


def term_fits(text, kind, seconds, slop=0, prefix=False):
    if kind == "keyword":
        return lambda v: as_text(v).startswith(text) if prefix else as_text(v) == text
    if kind in ("number", "date", "boolean") and prefix:
        raise Refused("prefix")
    if kind == "number":
        wanted = required(number_of_query(text), "number")
        return lambda v: as_number(v) is not None and as_number(v) == wanted
    if kind == "date":
        first, last = required(instant_of_query(text, seconds), "date")
        return lambda v: as_instant(v, seconds) is not None and first <= as_instant(v, seconds) <= last
    if kind == "boolean":
        required(text if text in ("true", "false") else None, "boolean")
        return lambda v: isinstance(v, (bool, str)) and as_text(v) == text
    wanted = tokens(text)
    if kind == "text":
        return lambda v: has_words(as_text(v), wanted, slop, prefix)

    dates = instant_of_query(text) if is_iso(text) and not slop and not prefix else None

    def fits(value):
        instant = None if dates is None else as_instant(value)
        if instant is not None and dates[0] <= instant <= dates[1]:
            return True
        if isinstance(value, str):
            return has_words(value, wanted, slop, prefix)
        if isinstance(value, bool):
            return not prefix and wanted == [as_text(value)]
        return not prefix and number_of_query(text) is not None and Decimal(value) == number_of_query(text)

    return fits


def wildcard_fits(pattern, kind):
    if kind in ("date", "boolean"):
        raise Refused("wildcard")
    items = re.findall(r"\\?.", pattern, re.DOTALL)
    literals = [item[-1] for item in items if item not in ("*", "?")]
    fold = kind not in ("keyword", "number")
    source = "".join(
        ".*" if item == "*" else "." if item == "?" else re.escape(lower(item[-1]) if fold else item[-1])
        for item in items
    )

    def whole(text):
        return re.fullmatch(source, text, re.DOTALL) is not None

    def fits(value):
        text = as_text(value)
        if not fold:
            return whole(text)
        if isinstance(value, str) and all(category(char) in "LNM" for char in literals):
            return any(whole(token) for token in tokens(text))
        return whole("".join(map(lower, text)))

    return fits


def range_fits(query, kind, seconds):
    bounds = [bound for bound in (query.lower, query.upper) if bound is not None]
    dynamic = kind == "dynamic"
    if dynamic and all(number_of_query(bound) is not None for bound in bounds):
        kind = "number"
    elif dynamic and all(looks_like_date(bound) for bound in bounds):
        kind = "date"
    if kind == "boolean":
        raise Refused("range")
    if kind == "number":
        low, high = (None if b is None else required(number_of_query(b), "number") for b in (query.lower, query.upper))
        read = as_number
    elif kind == "date":
        low = (
            None
            if query.lower is None
            else required(instant_of_query(query.lower, seconds), "date")[0 if query.include_lower else 1]
        )
        high = (
            None
            if query.upper is None
            else required(instant_of_query(query.upper, seconds), "date")[1 if query.include_upper else 0]
        )

        def read(value):
            return as_instant(value, seconds)
    else:
        low, high = query.lower, query.upper

        def read(value):
            return value if isinstance(value, str) else None if dynamic or isinstance(value, bool) else as_text(value)

    def fits(value):
        value = read(value)
        if value is None:
            return False
        above = low is None or value > low or (query.include_lower and value == low)
        return above and (high is None or value < high or (query.include_upper and value == high))

    return fits


def matches(query, record, mapping, topic, partition):
    """Whether the record is a hit. Raises Refused."""

    def ask(one):
        return matches(one, record, mapping, topic, partition)

    if isinstance(query, (q.All, q.Nothing)):
        return isinstance(query, q.All)
    if isinstance(query, q.And):
        answers = [ask(one) for one in query.clauses]  # of all: one of them may have to be refused
        return all(answers)
    if isinstance(query, q.Or):
        return sum([ask(one) for one in query.clauses]) >= query.minimum
    if isinstance(query, q.Not):
        return not ask(query.clause)
    if isinstance(query, q.Boost):
        return ask(query.clause)
    if isinstance(query, q.Ids):
        return (partition, record.offset) in query.ids
    where, path, kind, seconds = kind_of(query.field, mapping)
    if isinstance(query, q.Exists):
        if where == "path":
            return any(name == path or name.startswith(f"{path}.") for name, _ in parsed(record.value)[0])
        return bool(values_of(where, path, record, topic, partition))
    if isinstance(query, q.Term):
        fits = term_fits(query.text, kind, seconds, query.slop, query.prefix)
    elif isinstance(query, q.AnyTerm):
        several = [term_fits(text, kind, seconds) for text in query.texts]
        fits = lambda value: any(one(value) for one in several)  # noqa: E731
    elif isinstance(query, q.Wildcard):
        fits = wildcard_fits(query.pattern, kind)
    elif isinstance(query, q.Regexp):
        if kind in ("date", "boolean"):
            raise Refused("regexp")
        source = "[éÉ]" if query.pattern == "(?i)é" else query.pattern
        if re.search(r"(?<!\\)\$$", source):
            source = source[:-1] + r"\Z"
        pattern = re.compile(source, re.DOTALL | re.ASCII)
        fits = lambda value: pattern.search(as_text(value)) is not None  # noqa: E731
    else:
        fits = range_fits(query, kind, seconds)
    return any(map(fits, values_of(where, path, record, topic, partition)))
