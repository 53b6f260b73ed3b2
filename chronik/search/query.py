"""What is searched for: the tree to which both languages come, the query string and the Elasticsearch JSON.

A query is plain data, frozen, and travels to the workers as msgpack (`encode`, `decode`). Texts in it are as the user wrote
them: what a text means depends on its field (words, one exact value, a number, an instant), and `chronik.search.match`
alone says so. `describe` in `chronik.search.describe` writes a query as a query string again.

Make compounds by `all_of`, `any_of`, `negated` and `boosted`: they keep one form for one meaning, so that equal queries are
equal values: compounds of the same kind are flat, and none has a single part.

Scores: only tier 2 has them. What changes a score and no hit is kept for it: `Boost`, and an `Or` of which none is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

from chronik.errors import ChronikError


class QueryError(ChronikError):
    """A query that cannot be: why, and where: `position` in a query string (code points from 0), or `path` in JSON."""

    def __init__(self, reason: str, position: int | None = None, path: str = "") -> None:
        where = f"{path}: " if path else ""
        at = "" if position is None else f" at position {position}"
        super().__init__(f"{where}{reason}{at}")
        self.reason = reason
        self.position = position
        self.path = path


class Limits(msgspec.Struct, frozen=True):
    """How large a query may be. `clauses` counts every part of it, `depth` how deep they are within each other.

    Parsing the largest takes about 5 ms.
    """

    query_bytes: int = 16 << 10
    clauses: int = 512
    depth: int = 32
    text_bytes: int = 16 << 10
    terms: int = 65_536
    "Values of one `terms` clause, or ids of one `ids` clause, which count as one."


DEFAULT_LIMITS = Limits()


class All(msgspec.Struct, frozen=True, tag="all"):
    """Every record."""


class Nothing(msgspec.Struct, frozen=True, tag="nothing"):
    """No record."""


class Term(msgspec.Struct, frozen=True, tag="term"):
    """The field holds `text`: all of its words, in order, one beside the other; a number, an instant or an exact value by
    the field's kind.

    `slop`: how far in all the words may be from their places (Lucene's measure, see `chronik.search.words`). `prefix`: the
    last word is the beginning of one.
    """

    field: str
    text: str
    slop: int = 0
    prefix: bool = False


class AnyTerm(msgspec.Struct, frozen=True, tag="any"):
    """The field holds one of `texts`, as `Term` means it: thousands of them cost as much as one."""

    field: str
    texts: tuple[str, ...]


class Wildcard(msgspec.Struct, frozen=True, tag="wildcard"):
    """The field fits `pattern`: `*` for any run of characters, `?` for one, a backslash before one that stands for itself."""

    field: str
    pattern: str


class Regexp(msgspec.Struct, frozen=True, tag="regexp"):
    """A part of the raw field fits `pattern`, in RE2's syntax; `.` is any character, a line's end too."""

    field: str
    pattern: str


class Range(msgspec.Struct, frozen=True, tag="range"):
    """The field's value lies between; None is open. Compared as numbers, instants or texts, see `chronik.search.ranges`."""

    field: str
    lower: str | None = None
    upper: str | None = None
    include_lower: bool = True
    include_upper: bool = True


class Exists(msgspec.Struct, frozen=True, tag="exists"):
    """The field has a value that is not null."""

    field: str


class Ids(msgspec.Struct, frozen=True, tag="ids"):
    """The records at these places: partition and offset, sorted. Written `3:1234`."""

    ids: tuple[tuple[int, int], ...]


class And(msgspec.Struct, frozen=True, tag="and"):
    """All of the clauses, of which there are two at least."""

    clauses: tuple[Query, ...]


class Or(msgspec.Struct, frozen=True, tag="or"):
    """At least `minimum` of the clauses. With 0 it is every record, and the clauses that hold add to its score."""

    clauses: tuple[Query, ...]
    minimum: int = 1


class Not(msgspec.Struct, frozen=True, tag="not"):
    """Every record that the clause does not fit."""

    clause: Query


class Boost(msgspec.Struct, frozen=True, tag="boost"):
    """The same records; their score is multiplied by `factor`, which is 0 for a filter."""

    clause: Query
    factor: float


Query = All | Nothing | Term | AnyTerm | Wildcard | Regexp | Range | Exists | Ids | And | Or | Not | Boost

_ID = re.compile(r"([0-9]{1,10}):([0-9]{1,19})")
_MAX_INT32, _MAX_INT64 = (1 << 31) - 1, (1 << 63) - 1
_PATTERN_PARTS = re.compile(r"\\?.", re.DOTALL)
_REGEXP_PARTS = re.compile(r"\\.|.", re.DOTALL)
_WILD = re.compile(r"[*?\\]")

ALL = All()
NOTHING = Nothing()

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Query] = msgspec.msgpack.Decoder(Query)


def encode(query: Query) -> bytes:
    """The query as msgpack."""
    return _encoder.encode(query)


def decode(data: bytes) -> Query:
    """The query in these bytes. Raises QueryError."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as problem:
        raise QueryError(f"no query: {problem}") from problem


def all_of(clauses: Iterable[Query]) -> Query:
    """All of these; of none, every record."""
    flat: list[Query] = []
    for clause in clauses:
        if isinstance(clause, And):
            flat.extend(clause.clauses)
        elif isinstance(clause, Nothing):
            return NOTHING
        elif not isinstance(clause, All):
            flat.append(clause)
    if not flat:
        return ALL
    return flat[0] if len(flat) == 1 else And(tuple(flat))


def any_of(clauses: Iterable[Query], minimum: int = 1) -> Query:
    """At least `minimum` of these; one of none is no record."""
    given = list(clauses)
    minimum = max(minimum, 0)
    if minimum > len(given):
        return NOTHING
    if minimum == len(given) and minimum != 1:
        return all_of(given)
    flat: list[Query] = []
    for clause in given:
        if minimum <= 1 and isinstance(clause, Or) and clause.minimum == 1:
            flat.extend(clause.clauses)
        elif not (minimum <= 1 and isinstance(clause, Nothing)):
            flat.append(clause)
    if not flat:
        return NOTHING if minimum else ALL
    return flat[0] if len(flat) == minimum == 1 else Or(tuple(flat), minimum)


def negated(clause: Query) -> Query:
    """What the clause does not fit."""
    if isinstance(clause, All):
        return NOTHING
    if isinstance(clause, Nothing):
        return ALL
    if isinstance(clause, Boost):  # what is not there has no score
        return negated(clause.clause)
    return clause.clause if isinstance(clause, Not) else Not(clause)


def boosted(clause: Query, factor: float) -> Query:
    """The same records, `factor` times the score."""
    if isinstance(clause, Boost):
        return boosted(clause.clause, clause.factor * factor)
    return clause if factor == 1.0 else Boost(clause, factor)


def wildcard(field: str, pattern: str) -> Query:
    """What fits the pattern; `*` alone is whatever there is. Escapes that say nothing are left out of it."""
    parts: list[str] = []
    for token in _PATTERN_PARTS.findall(pattern):
        if token == "*":
            if not parts or parts[-1] != "*":
                parts.append("*")
        elif token == "?":
            parts.append("?")
        else:
            char = token[-1]
            parts.append(f"\\{char}" if char in "*?\\" else char)
    text = "".join(parts)
    return Exists(field) if text == "*" else Wildcard(field, text)


def literal_pattern(text: str) -> str:
    """The text as a part of a wildcard pattern that stands for itself."""
    return _WILD.sub(r"\\\g<0>", text)


def regexp(field: str, pattern: str) -> Query:
    """What fits the regular expression; an empty one fits whatever there is.

    In one form for all: slashes without a backslash, and one before a last character that could not end a regular
    expression in a query string. Raises QueryError for a backslash at the end; what else is wrong with it, compiling tells.
    """
    parts = _REGEXP_PARTS.findall(pattern)
    if parts and parts[-1] == "\\":
        raise QueryError("the regular expression ends in a backslash")
    parts = ["/" if part == "\\/" else part for part in parts]
    if parts and parts[-1] in " \t\r\n:":
        parts[-1] = f"\\{parts[-1]}"
    return Regexp(field, "".join(parts)) if parts else Exists(field)


def between(
    field: str, lower: str | None, upper: str | None, include_lower: bool = True, include_upper: bool = True
) -> Query:
    """What lies between; with no bound at all, whatever there is."""
    if lower is None and upper is None:
        return Exists(field)
    return Range(field, lower, upper, include_lower or lower is None, include_upper or upper is None)


def any_term(field: str, texts: Iterable[str]) -> Query:
    """What holds one of these."""
    distinct = tuple(dict.fromkeys(texts))
    if not distinct:
        return NOTHING
    return Term(field, distinct[0]) if len(distinct) == 1 else AnyTerm(field, distinct)


def ids(texts: Iterable[str]) -> Query:
    """The records with these ids. Raises QueryError."""
    places = sorted({parse_id(text) for text in texts})
    return Ids(tuple(places)) if places else NOTHING


def parse_id(text: str) -> tuple[int, int]:
    """Partition and offset out of an `_id`, which is written `3:1234`. Raises QueryError."""
    match = _ID.fullmatch(text)
    if match is None:
        raise QueryError(f"`{text:.50}` is no _id: partition:offset is one, such as 3:1234")
    partition, offset = int(match[1]), int(match[2])
    if partition > _MAX_INT32 or offset > _MAX_INT64:
        raise QueryError(f"`{text}` is no _id: no partition or offset is so large")
    return partition, offset


def children(query: Query) -> tuple[Query, ...]:
    """The queries directly within one."""
    if isinstance(query, And | Or):
        return query.clauses
    return (query.clause,) if isinstance(query, Not | Boost) else ()


def walk(query: Query) -> Iterator[Query]:
    """The query, and all within it."""
    pending = [query]
    while pending:
        query = pending.pop()
        yield query
        pending.extend(reversed(children(query)))


def check_size(query: Query, limits: Limits) -> None:
    """Raises QueryError where the query is larger than may be."""
    count = 0
    level: tuple[Query, ...] = (query,)
    for _ in range(limits.depth + 1):
        count += len(level)
        if count > limits.clauses:
            raise QueryError(f"the query has more than {limits.clauses} clauses")
        for one in level:
            _check_leaf(one, limits)
        level = tuple(child for one in level for child in children(one))
        if not level:
            return
    raise QueryError(f"the query is nested deeper than {limits.depth} levels")


def _check_leaf(query: Query, limits: Limits) -> None:
    for member in query.__struct_fields__:
        text = getattr(query, member)
        if isinstance(text, str):
            check_text(text, limits)
    values: tuple[object, ...] = ()
    if isinstance(query, AnyTerm):
        for text in query.texts:
            check_text(text, limits)
        values = query.texts
    elif isinstance(query, Ids):
        values = query.ids
    if len(values) > limits.terms:
        raise QueryError(f"{len(values)} values in one clause, {limits.terms} are allowed")


def check_text(text: str, limits: Limits) -> None:
    """Raises QueryError for a text that is too long, or is no Unicode (half of a surrogate pair)."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as problem:
        raise QueryError(f"a text has half of a surrogate pair, at its character {problem.start}") from None
    if size > limits.text_bytes:
        raise QueryError(f"a text of {size} bytes, {limits.text_bytes} are allowed")
