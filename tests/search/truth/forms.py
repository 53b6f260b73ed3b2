"""Every form of the query language at random: as a query string, as Elasticsearch's JSON, and what it means.

What a form means is put together here, from docs/search.md and the plain second implementation in `tests.search.oracle`; no
parser of the product has a part in it. Most forms are made from a record's own texts, so that they find something.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import re2

from chronik.search import query as q
from chronik.search.document import Document
from chronik.search.mapping import Mapping
from tests.search import oracle
from tests.search.records import FIELDS, INSTANTS, NUMBERS, REGEXPS, WORDS


class Where(NamedTuple):
    """Where a record is, and how its fields are read."""

    mapping: Mapping
    topic: str
    partition: int


Means = Callable[[Document, Where], bool]


class Form(NamedTuple):
    """A query: as a query string and as JSON (None where it cannot be said so), and whether a record is a hit.

    `means` raises `oracle.Refused` where the query does not fit a field.
    """

    text: str | None
    body: Any
    means: Means


class Makers:
    """Forms made by `chance` over these records, fields read by `mapping`."""

    def __init__(self, chance, records: Sequence[tuple[int, Document]], mapping: Mapping) -> None:
        self.chance = chance
        self.records = records
        self.mapping = mapping

    def form(self, depth: int = 2) -> Form:
        """Any form, with others in it down to `depth`."""
        if not depth or self.chance.random() < 0.45:
            return self.leaf()
        children = [self.form(depth - 1) for _ in range(self.chance.choice([1, 2, 2, 3, 3, 4]))]
        return self.chance.choice(COMPOUNDS)(self, children)

    def leaf(self) -> Form:
        """One without others in it."""
        return self.chance.choice(LEAVES)(self, *self.aim())

    def aim(self) -> tuple[str, str]:
        """A field, and a text that is in one of the records there; or any field and any text."""
        chance = self.chance
        if not self.records or chance.random() < 0.2:
            return chance.choice(FIELDS), chance.choice([*WORDS, *NUMBERS, *INSTANTS, "error order", "order-17", ""])
        partition, record = chance.choice(self.records)
        found = [("value", record.value), ("value", record.value), ("value.keyword", record.value), ("key", record.key)]
        found += [("key.keyword", record.key)] + [(f"headers.{name}", content) for name, content in record.headers]
        found += [("headers", content) for _, content in record.headers]
        choices = [(name, content.decode("utf-8", "replace")) for name, content in found if content is not None]
        choices += [("offset", str(record.offset)), ("timestamp", str(record.timestamp)), ("partition", str(partition))]
        for path, leaf in oracle.parsed(record.value)[0][:20]:
            if path:
                text = ("false", "true")[leaf] if isinstance(leaf, bool) else str(leaf)
                choices += [(path, text), (path, text), (f"{path}.keyword", text), (f"value.{path}", text)]
        choices = [(name, text) for name, text in choices if "*" not in name and name not in ("_id", "_exists_")]
        field, text = chance.choice(choices)
        return field, chance.choice([text, text, text.swapcase()])

    def kind(self, field: str) -> str:
        """How the field is read."""
        return oracle.kind_of(field, self.mapping)[2]

    def part(self, text: str) -> str:
        """A run of the text's characters."""
        start = self.chance.randrange(min(len(text), 200) + 1)
        return text[start : start + self.chance.randrange(1, 16)]

    def named(self, field: str, content: str) -> str:
        """A clause of a query string on a field."""
        return content if field == "value" and self.chance.random() < 0.5 else f"{escaped(field)}:{content}"

    def written(self, text: str) -> str:
        """A text in a query string."""
        return quoted(text) if not text or self.chance.random() < 0.5 else bare(text)

    def scalar(self, text: str) -> Any:
        """A text in JSON, sometimes as the number or boolean that it is."""
        if self.chance.random() < 0.5:
            if re.fullmatch(r"0|-?[1-9]\d{0,17}", text, re.ASCII):
                return int(text)
            if text in ("true", "false"):
                return text == "true"
        return text


# -- how it is written ------------------------------------------------------------------------------------------------


def escaped(name: str) -> str:
    """The name of a field in a query string."""
    return re.sub(r"[^0-9A-Za-z_.@-]", lambda found: "\\" + found[0], name)


def bare(text: str) -> str:
    """A text without quotes: whatever could mean something has a backslash."""
    return re.sub(r"[^0-9a-z]", lambda found: "\\" + found[0], text)


def quoted(text: str) -> str:
    """A text in quotes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def literal(text: str) -> str:
    """The text in a wildcard pattern, for itself."""
    return re.sub(r"[*?\\]", lambda found: "\\" + found[0], text)


def as_json(form: Form) -> Any:
    """The form as JSON; as a query string within it where there is no other way."""
    return {"query_string": {"query": form.text}} if form.body is None else form.body


# -- what it means ----------------------------------------------------------------------------------------------------


def asks(node: Any) -> Means:
    """What a single clause asks, as data."""
    return lambda record, where: oracle.matches(node, record, where.mapping, where.topic, where.partition)


def at_least(number: int, several: Sequence[Means]) -> Means:
    """So many of these."""
    return lambda record, where: sum([means(record, where) for means in several]) >= number


def every(several: Sequence[Means]) -> Means:
    """All of these."""
    return at_least(len(several), several)


def none_of(several: Sequence[Means]) -> Means:
    """Not one of these."""
    found = at_least(1, several)
    return lambda record, where: not found(record, where)


# -- leaves -----------------------------------------------------------------------------------------------------------


def term(make: Makers, field: str, text: str) -> Form:
    if make.chance.random() < 0.6:
        text = make.chance.choice(re.findall(r"\w+", text) or [text])
    bodies = [{"term": {field: make.scalar(text)}}, {"term": {field: {"value": make.scalar(text), "boost": 2.5}}}]
    if make.kind(field) in ("dynamic", "text"):
        bodies += [{"match_phrase": {field: make.scalar(text)}}]
    return Form(make.named(field, make.written(text)), make.chance.choice(bodies), asks(q.Term(field, text)))


def phrase(make: Makers, field: str, text: str) -> Form:
    chance, words = make.chance, oracle.tokens(text)
    start = chance.randrange(len(words) + 1)
    words = words[start : start + chance.randrange(1, 5)] or ["error"]
    if chance.random() < 0.3:
        chance.shuffle(words)
    if len(words) > 2 and chance.random() < 0.3:
        del words[1]
    slop, prefix = chance.choice([0, 0, 1, 2, 5]), chance.random() < 0.3
    if prefix:
        words[-1] = words[-1][: chance.randrange(1, len(words[-1]) + 1)]
    text = " ".join(words)
    count = f"~{slop}" if slop or chance.random() < 0.2 else ""
    body: Any = {"query": text, "slop": slop} if slop else make.chance.choice([text, {"query": text}])
    return Form(
        make.named(field, quoted(text) + "*" * prefix + count),
        {"match_phrase_prefix" if prefix else "match_phrase": {field: body}},
        asks(q.Term(field, text, slop, prefix)),
    )


def any_of_terms(make: Makers, field: str, text: str) -> Form:
    texts = [text, make.part(text), make.chance.choice(WORDS), *re.findall(r"\w+", text)[:5]]
    texts = make.chance.sample(texts, make.chance.randrange(1, len(texts) + 1))
    return Form(
        f"{escaped(field)}:IN [{' '.join(map(make.written, texts))}]",
        {"terms": {field: [make.scalar(each) for each in texts]}},
        asks(q.AnyTerm(field, tuple(texts))),
    )


def wildcard(make: Makers, field: str, text: str) -> Form:
    chance = make.chance
    if chance.random() < 0.5:
        text = chance.choice(re.findall(r"\w+", text) or ["a"])
    for _ in range(chance.randrange(1, 3)):
        at, size = chance.randrange(min(len(text), 40) + 1), chance.choice([0, 1, 2, 5])
        text = text[:at] + ("\ue000" if size != 1 or chance.random() < 0.5 else "\ue001") + text[at + size :]
    if chance.random() < 0.3:
        text = f"\ue000{make.part(text)}\ue000"
    pattern = literal(text).replace("\ue000", "*").replace("\ue001", "?")
    shown = "".join(
        {"\ue000": "*", "\ue001": "?"}.get(char, char if char.isascii() and char.isalnum() else "\\" + char)
        for char in text
    )
    node = q.Exists(field) if not pattern.strip("*") else q.Wildcard(field, pattern)
    return Form(f"{escaped(field)}:{shown}", {"wildcard": {field: {"value": pattern}}}, asks(node))


def prefix(make: Makers, field: str, text: str) -> Form:
    text = text[: make.chance.randrange(1, 12)]
    if make.chance.random() < 0.5:
        text = (re.findall(r"\w+", text) or [text])[0]
    node = q.Wildcard(field, literal(text) + "*") if text else q.Exists(field)
    return Form(f"{escaped(field)}:{bare(text)}*", {"prefix": {field: text}}, asks(node))


_SAFE = re.compile(r"[ab-hj-jl-rt-zA-HJ-JL-RT-Z0-9 -]+")
"""Letters that RE2 and Python's `re` fold alike: not k, s and i, which have relatives beyond ASCII."""


def any_case(make: Makers, field: str, text: str) -> Form:
    """`case_insensitive` on exact texts, where it makes a difference."""
    field = field if field.endswith(".keyword") else f"{field}.keyword"
    known = _SAFE.findall(text)
    text = make.chance.choice(known)[:12] if known else "a"
    kind, source = make.chance.choice([("term", ""), ("prefix", ".*"), ("wildcard", ".*")])
    pattern = f"{literal(text)}*" if kind == "wildcard" else text
    fits = re.compile(re.escape(text) + source, re.IGNORECASE | re.DOTALL).fullmatch

    def means(record: Document, where: Where) -> bool:
        place, path, what, _ = oracle.kind_of(field, where.mapping)
        if what != "keyword":
            raise oracle.Refused("not an exact text")
        values = oracle.values_of(place, path, record, where.topic, where.partition)
        return any(fits(oracle.as_text(value)) is not None for value in values)

    if make.kind(field) != "keyword":
        return term(make, field, text)
    return Form(None, {kind: {field: {"value": pattern, "case_insensitive": True}}}, means)


def regexp(make: Makers, field: str, text: str) -> Form:
    chance = make.chance
    folded = chance.random() < 0.2
    if folded:
        pattern = chance.choice(["err", "^err", "e.*r", "order-\\d", "[0-9]+", "error[ -]a", "(error|order) "])
    elif chance.random() < 0.5:
        pattern = chance.choice(REGEXPS)
    else:
        pattern = chance.choice(["", "^"]) + re2.escape(make.part(text) or "a") + chance.choice(["", "", "$"])
    items = re.findall(r"\\.|.", pattern, re.DOTALL)
    items = [item.replace("/", "\\/") if len(item) == 1 else item for item in items]
    if items[-1] in (" ", "\t", "\r", "\n", ":"):
        items[-1] = "\\" + items[-1]
    exact = make.kind(field) in ("keyword", "number")
    body = {"regexp": {field: {"value": pattern, "flags": "NONE", "case_insensitive": folded}}}
    return Form(
        make.named(field, f"/{''.join(items)}/{'i' * folded}"),
        None if exact else body,  # of an exact text all of it has to fit there
        asks(q.Regexp(field, f"(?i){pattern}" if folded else pattern)),
    )


def whole_regexp(make: Makers, field: str, text: str) -> Form:
    """Elasticsearch's `regexp` on an exact text, all of which has to fit."""
    field = field if field.endswith(".keyword") else f"{field}.keyword"
    pattern = re2.escape(text[:20]) + make.chance.choice(["", ".*", "(a|b)?", "[0-9]*"])
    if make.kind(field) not in ("keyword", "number"):
        return term(make, field, text)
    return (
        Form(None, {"regexp": {field: pattern}}, asks(q.Regexp(field, rf"\A(?:{pattern})\Z")))
        if not re.search(r'(?<!\\)[~&<>@#"]', pattern)
        else term(make, field, text)
    )


def between(make: Makers, field: str, text: str) -> Form:
    chance = make.chance
    if field in ("offset", "timestamp", "partition") and re.fullmatch(r"-?\d+", text):
        several = [text, str(int(text) + chance.randrange(-200, 200))]
    else:
        several = [text, chance.choice([make.part(text), *NUMBERS, *INSTANTS, "a", "zz"])]
    lower: str | None
    upper: str | None
    lower, upper = sorted(several, key=lambda each: (len(each), each)) if chance.random() < 0.5 else sorted(several)
    closed_below, closed_above = chance.random() < 0.5, chance.random() < 0.5
    way = chance.choice(["both", "both", "below", "above"])
    if way == "below":
        upper = None
    if way == "above":
        lower = None
    body: dict[str, Any] = {}
    if lower is not None:
        body["gte" if closed_below else "gt"] = make.scalar(lower)
    if upper is not None:
        body["lte" if closed_above else "lt"] = make.scalar(upper)
    if way != "both" and chance.random() < 0.5:
        bound, sign, closed = (lower, ">", closed_below) if upper is None else (upper, "<", closed_above)
        text = f"{sign}{'=' * closed}{make.written(bound or '')}"
    else:
        low, high = ("*" if bound is None else make.written(bound) for bound in (lower, upper))
        text = f"{'[' if closed_below else '{'}{low} TO {high}{']' if closed_above else '}'}"
    node = q.Range(field, lower, upper, closed_below or lower is None, closed_above or upper is None)
    return Form(make.named(field, text), {"range": {field: body}}, asks(node))


def of_dates(make: Makers, field: str, text: str) -> Form:
    """A range with a time zone or a format, and the same without them."""
    field = make.chance.choice(["timestamp", "a", "msg", "level"])
    if make.kind(field) not in ("dynamic", "date"):
        return between(make, field, text)
    body, node = make.chance.choice(
        [
            (
                {"gte": "2026-01-01", "time_zone": "+02:00"},
                q.Range(field, "2026-01-01T00:00:00+02:00"),
            ),
            (
                {"lte": "2025-12-31", "time_zone": "-01:00"},
                q.Range(field, None, "2026-01-01T00:00:00-01:00", True, False),
            ),
            (
                {"gt": "1767268800000", "lt": "1767355200000", "format": "epoch_millis"},
                q.Range(field, "2026-01-01T12:00:00.000Z", "2026-01-02T12:00:00.000Z", False, False),
            ),
            (
                {"gte": 1767268800, "format": "epoch_second"},
                q.Range(field, "2026-01-01T12:00:00.000Z"),
            ),
        ]
    )
    return Form(None, {"range": {field: body}}, asks(node))


def exists(make: Makers, field: str, text: str) -> Form:
    if make.chance.random() < 0.3 and "." in field:
        field = field.rpartition(".")[0]
    shown = make.chance.choice([f"_exists_:{bare(field)}", f"{escaped(field)}:*", f"_exists_:{quoted(field)}"])
    return Form(shown, {"exists": {"field": field}}, asks(q.Exists(field)))


def places(make: Makers, field: str, text: str) -> Form:
    known = [(partition, record.offset) for partition, record in make.records] or [(0, 0)]
    chosen = {make.chance.choice(known) for _ in range(make.chance.randrange(1, 5))} | {(7, 1)}
    shown = [f"{partition}:{offset}" for partition, offset in sorted(chosen)]
    bodies = [{"ids": {"values": shown}}, {"terms": {"_id": shown}}]
    return Form(f"_id:IN [{' '.join(shown)}]", make.chance.choice(bodies), asks(q.Ids(tuple(sorted(chosen)))))


def everything(make: Makers, field: str, text: str) -> Form:
    return Form(make.chance.choice(["*", "*:*"]), {"match_all": {}}, asks(q.All()))


def nothing(make: Makers, field: str, text: str) -> Form:
    return Form(None, {"match_none": {}}, asks(q.Nothing()))


def _matching(field: str, text: str, kind: str, number: Callable[[int], int], zero: bool) -> Means:
    """What a `match` asks: so many of the words; a number or a date that is several words is asked for as such, too."""
    if kind not in ("dynamic", "text"):
        return asks(q.Term(field, text))
    words = oracle.tokens(text)
    if not words:
        return asks(q.All() if zero else q.Nothing())
    several = at_least(number(len(words)), [asks(q.Term(field, word)) for word in words])
    if len(words) > 1 and (oracle.number_of_query(text) is not None or oracle.is_iso(text)):
        return at_least(1, [asks(q.Term(field, text)), several])
    return several


def _minimum(make: Makers) -> tuple[Any, Callable[[int], int]]:
    """A `minimum_should_match`, and what it asks of so many clauses."""
    number = make.chance.randrange(1, 4)
    return make.chance.choice(
        [
            (0, lambda count: 0),
            (number, lambda count: number),
            (str(-number), lambda count: max(count - number, 0)),
            ("75%", lambda count: int(count * 0.75)),
            ("-30%", lambda count: count - count * 3 // 10),
        ]
    )


def _one(count: int) -> int:
    return 1


def match(make: Makers, field: str, text: str) -> Form:
    chance = make.chance
    text = chance.choice([text, " ".join(chance.sample(WORDS[:8], 3)), make.part(text)])[:150]
    options: dict[str, Any] = {}
    number = _one
    if chance.random() < 0.3:
        options["operator"], number = chance.choice(["and", "AND"]), lambda count: count
    elif chance.random() < 0.4:
        options["minimum_should_match"], asked = _minimum(make)
        number = lambda count: max(asked(count), 1)  # noqa: E731
    zero = chance.random() < 0.2
    if zero:
        options["zero_terms_query"] = "all"
    body = {"query": make.scalar(text), **options} if options else make.scalar(text)
    return Form(None, {"match": {field: body}}, _matching(field, text, make.kind(field), number, zero))


def multi_match(make: Makers, field: str, text: str) -> Form:
    chance = make.chance
    text = " ".join(oracle.tokens(text)[:4]) or "error"
    fields = list(dict.fromkeys([field, "value", chance.choice(FIELDS), "key"]))[: chance.randrange(1, 5)]
    kind = chance.choice(["best_fields", "most_fields", "phrase", "phrase_prefix"])
    if kind.startswith("phrase"):
        each = [asks(q.Term(name, text, 0, kind == "phrase_prefix")) for name in fields]
    else:
        each = [_matching(name, text, make.kind(name), _one, False) for name in fields]
    shown = [name + chance.choice(["", "^2"]) for name in fields]
    return Form(None, {"multi_match": {"query": text, "fields": shown, "type": kind}}, at_least(1, each))


def in_fields(make: Makers, field: str, text: str) -> Form:
    """A query string's clause without a name, looked for in several fields."""
    fields = list(dict.fromkeys([field, make.chance.choice(FIELDS), "value"]))
    body: dict[str, Any] = {"query": quoted(text)}
    if make.chance.random() < 0.3:
        fields = fields[:1]
        body["default_field"] = field
    else:
        body["fields"] = fields
    return Form(None, {"query_string": body}, at_least(1, [asks(q.Term(name, text)) for name in fields]))


def search_box(make: Makers, field: str, text: str) -> Form:
    """A simple query string: words, a phrase, a beginning, joined from left to right."""
    chance = make.chance
    words = [word for word in oracle.tokens(text) if len(word) < 50][:12] or ["error"]
    default = chance.choice(["OR", "AND"])
    shown, means = "", None
    for _ in range(chance.randrange(1, 4)):
        word = chance.choice(words)
        way = chance.choice(["word", "phrase", "beginning"])
        if way == "word":
            piece, one = bare(word), asks(q.Term(field, word))
        elif way == "phrase":
            pair = f"{word} {chance.choice(words)}"
            piece, one = f'"{pair}"', asks(q.Term(field, pair))
        else:
            piece, one = f"{bare(word[:3])}*", asks(q.Wildcard(field, f"{literal(word[:3])}*"))
        if chance.random() < 0.2:
            piece, one = f"-{piece}", none_of([one])
        if means is None:
            shown, means = piece, one
            continue
        joint = chance.choice([" + ", " | ", " "])
        both = (joint.strip() or {"AND": "+", "OR": "|"}[default]) == "+"
        shown, means = shown + joint + piece, at_least(2 if both else 1, [means, one])
    assert means is not None
    body = {"query": shown, "fields": [field], "default_operator": default}
    return Form(None, {"simple_query_string": body}, means)


LEAVES = [
    term, term, term, phrase, phrase, any_of_terms, wildcard, wildcard, prefix, any_case, regexp, regexp, whole_regexp,
    between, between, of_dates, exists, places, everything, nothing, match, match, multi_match, in_fields, search_box,
]  # fmt: skip


# -- compounds --------------------------------------------------------------------------------------------------------


def _texts(children: Sequence[Form]) -> list[str] | None:
    """The children as parts of a query string, None where one has none."""
    texts = [child.text for child in children if child.text is not None]
    return [f"({text})" for text in texts] if len(texts) == len(children) else None


def _sides(children: Sequence[Form]) -> list[Means]:
    return [child.means for child in children]


def conjunction(make: Makers, children: list[Form]) -> Form:
    texts = _texts(children)
    joint = make.chance.choice([" AND ", " && "])
    key = make.chance.choice(["must", "filter"])
    return Form(texts and joint.join(texts), {"bool": {key: list(map(as_json, children))}}, every(_sides(children)))


def disjunction(make: Makers, children: list[Form]) -> Form:
    texts = _texts(children)
    joint = make.chance.choice([" OR ", " || ", " "])
    return Form(
        texts and joint.join(texts), {"bool": {"should": list(map(as_json, children))}}, at_least(1, _sides(children))
    )


def counted(make: Makers, children: list[Form]) -> Form:
    number = make.chance.randrange(len(children) + 2)
    texts = _texts(children)
    body = {"should": list(map(as_json, children)), "minimum_should_match": number}
    return Form(texts and f"({' '.join(texts)})~{number}", {"bool": body}, at_least(number, _sides(children)))


def negation(make: Makers, children: list[Form]) -> Form:
    child = children[0]
    sign = make.chance.choice(["NOT ", "!", "-"])
    return Form(
        None if child.text is None else f"{sign}({child.text})",
        {"bool": {"must_not": as_json(child)}},
        none_of([child.means]),
    )


def signs(make: Makers, children: list[Form]) -> Form:
    """`+a b -c`, and the same in a `bool`."""
    chance = make.chance
    roles = ["+", *(chance.choice(["+", "", "-"]) for _ in children[1:])]
    texts = _texts(children)
    by_role = {sign: [child for role, child in zip(roles, children, strict=True) if role == sign] for sign in "+-"}
    optional = [child for role, child in zip(roles, children, strict=True) if not role]
    content: dict[str, Any] = {"must": list(map(as_json, by_role["+"]))}
    if optional:
        content["should"] = list(map(as_json, optional))
    if by_role["-"]:
        content["must_not"] = list(map(as_json, by_role["-"]))
    allowed = none_of(_sides(by_role["-"]))
    optional_too = at_least(0, _sides(optional))  # they find nothing, but may be refused
    return Form(
        texts and " ".join(role + text for role, text in zip(roles, texts, strict=True)),
        {"bool": content},
        every([*_sides(by_role["+"]), allowed, optional_too]),
    )


def bool_of_all(make: Makers, children: list[Form]) -> Form:
    """A `bool` with whatever there is, and a `minimum_should_match`."""
    content: dict[str, Any] = {}
    groups: dict[str, list[Form]] = {}
    for child in children:
        groups.setdefault(make.chance.choice(["must", "filter", "should", "should", "must_not"]), []).append(child)
    for key, members in groups.items():
        content[key] = as_json(members[0]) if len(members) == 1 else list(map(as_json, members))
    should = _sides(groups.get("should", []))
    needed = _sides([*groups.get("must", []), *groups.get("filter", [])])
    number = 0 if needed or not should else 1
    if make.chance.random() < 0.5:
        content["minimum_should_match"], asked = _minimum(make)
        number = asked(len(should))
    allowed = none_of(_sides(groups.get("must_not", [])))
    return Form(None, {"bool": content}, every([*needed, at_least(number, should), allowed]))


def weighed(make: Makers, children: list[Form]) -> Form:
    child = children[0]
    text = None if child.text is None else f"({child.text})^{make.chance.choice(['2', '0.5', '1e-3'])}"
    body = make.chance.choice(
        [{"constant_score": {"filter": as_json(child), "boost": 3}}, {"bool": {"must": as_json(child), "boost": 0.1}}]
    )
    return Form(text, body, child.means)


def precedence(make: Makers, children: list[Form]) -> Form:
    """Operators without parentheses around them."""
    texts = _texts(children)
    if texts is None or len(children) < 3:
        return disjunction(make, children)
    (a, b, c), (one, two, three) = texts[:3], _sides(children[:3])
    text, means = make.chance.choice(
        [
            (f"{a} OR {b} AND {c}", at_least(1, [one, every([two, three])])),
            (f"{a} AND {b} OR {c}", at_least(1, [every([one, two]), three])),
            (f"NOT {a} AND {b} OR {c}", at_least(1, [every([none_of([one]), two]), three])),
            (f"{a} {b} NOT {c}", every([at_least(1, [one, two]), none_of([three])])),
            (f"{a} OR {b} OR NOT {c}", at_least(1, [one, two, none_of([three])])),
            (f"{a} AND {b} AND NOT {c}", every([one, two, none_of([three])])),
            (f"{a} {b} AND {c}", at_least(1, [one, every([two, three])])),
        ]
    )
    return Form(text, None, means)


def beside(make: Makers, children: list[Form]) -> Form:
    """Clauses side by side where the default operator is AND."""
    leaves = [leaf for leaf in (make.leaf() for _ in range(4)) if leaf.text is not None][:3]
    if len(leaves) < 2:
        return conjunction(make, children)
    last = leaves[-1]
    text = " ".join(f"({leaf.text})" for leaf in leaves[:-1]) + f" NOT ({last.text})"
    body = {"query_string": {"query": text, "default_operator": make.chance.choice(["AND", "and"])}}
    return Form(None, body, every([*_sides(leaves[:-1]), none_of([last.means])]))


def field_group(make: Makers, children: list[Form]) -> Form:
    """A field for a whole parenthesis."""
    field, text = make.aim()
    words = (re.findall(r"\w+", text) or ["a"])[:3]
    several = [asks(q.Term(field, word)) for word in words]
    joint, number = make.chance.choice([(" OR ", 1), (" AND ", len(words)), (" ", 1)])
    return Form(f"{escaped(field)}:({joint.join(map(bare, words))})", None, at_least(number, several))


COMPOUNDS = [
    conjunction, conjunction, disjunction, disjunction, counted, negation, signs, bool_of_all, bool_of_all, weighed,
    precedence, beside, field_group,
]  # fmt: skip
