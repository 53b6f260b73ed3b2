"""Highlights: pieces of a hit's fields with marks around what was found, in the shape that Elasticsearch gives them.

What is marked is what the query's clauses look for, negated ones left out: those on the same field, or all of them with
`require_field_match` false. A text is cut into fragments around the marks, at white space; the fragments with the most marks
are kept, in the order of the text.
"""

from __future__ import annotations

import html

import msgspec

from chronik.search.body import Body
from chronik.search.document import Document
from chronik.search.fields import Field, resolve
from chronik.search.mapping import Mapping
from chronik.search.marks import Marker, Span, marker_of
from chronik.search.match import Scope
from chronik.search.numbers import text_of_number
from chronik.search.query import AnyTerm, Not, Query, Regexp, Term, Wildcard, children
from chronik.search.values import leaves_of

MAX_TEXT = 200_000
"""Characters of a text that are looked through."""
MAX_VALUES = 100
_MAX_FIELDS = 50


class Options(msgspec.Struct, frozen=True):
    """How one field is highlighted."""

    before: str = "<em>"
    after: str = "</em>"
    fragment_size: int = 100
    fragments: int = 5
    "0 is the whole text."
    no_match_size: int = 0
    same_field: bool = True
    html: bool = False


class Highlight(msgspec.Struct, frozen=True):
    """Which fields are highlighted, and how; `*` are those that the query names."""

    fields: tuple[tuple[str, Options], ...]


def parse_highlight(body: Body) -> Highlight:
    """What is asked for. Raises QueryError."""
    body.known("fields", *_OPTIONS)
    general = _options(body, Options())
    fields: list[tuple[str, Options]] = []
    for item in body["fields"].items():
        for name in item.names():
            if not name or ("*" in name and name != "*"):
                raise item.error(f"`{name}`: the name of a field is expected, or * for those of the query")
            fields.append((name, _options(item[name].known(*_OPTIONS), general)))
    if len(fields) > _MAX_FIELDS:
        raise body["fields"].error(f"more than {_MAX_FIELDS} fields")
    return Highlight(tuple(fields))


class Highlighter:
    """Highlights the hits of one query."""

    def __init__(self, highlight: Highlight, query: Query, mapping: Mapping, now_ms: int) -> None:
        clauses = [
            (field, marker)
            for clause in _positive(query)
            if (marker := marker_of(clause, field := resolve(clause.field, mapping), now_ms)) is not None
        ]
        self._fields: list[tuple[str, Field, Options, list[Marker]]] = []
        for name, options in highlight.fields:
            names = list(dict.fromkeys(field.name for field, _ in clauses)) if name == "*" else [name]
            for one in names:
                field = resolve(one, mapping)
                markers = [
                    marker
                    for other, marker in clauses
                    if not options.same_field or (other.source, other.path) == (field.source, field.path)
                ]
                self._fields.append((one, field, options, markers))

    def of(self, document: Document, scope: Scope) -> dict[str, list[str]]:
        """The fragments of each field that has any."""
        found: dict[str, list[str]] = {}
        for name, field, options, markers in self._fields:
            fragments: list[str] = []
            texts = [_text(leaf) for leaf in leaves_of(field)(document, scope)[:MAX_VALUES]]
            for text in texts:
                text = text[:MAX_TEXT]
                spans = _joined([span for marker in markers for span in marker(text)])
                if spans:
                    fragments += _fragments(text, spans, options)
            if not fragments and options.no_match_size and texts:
                fragments = [_marked(texts[0], 0, _cut(texts[0], options.no_match_size), [], options)]
            if fragments:
                found[name] = fragments if not options.fragments else fragments[: options.fragments]
        return found


def _positive(query: Query) -> list[Term | AnyTerm | Wildcard | Regexp]:
    if isinstance(query, Not):
        return []
    if isinstance(query, Term | AnyTerm | Wildcard | Regexp):
        return [query]
    return [leaf for child in children(query) for leaf in _positive(child)]


def _text(leaf: object) -> str:
    if isinstance(leaf, str):
        return leaf
    if isinstance(leaf, bool):
        return "true" if leaf else "false"
    return text_of_number(leaf)  # type: ignore[arg-type]


def _joined(spans: list[Span]) -> list[Span]:
    """Spans in order, those that overlap as one."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _fragments(text: str, spans: list[Span], options: Options) -> list[str]:
    if not options.fragments:
        return [_marked(text, 0, len(text), spans, options)]
    pieces: list[tuple[int, int, list[Span]]] = []
    last = index = 0
    while index < len(spans):
        first = spans[index]
        start = _word_start(text, max(last, first[0] - options.fragment_size // 3), first[0])
        end = max(_cut(text, start + options.fragment_size), first[1])
        inside = [span for span in spans[index:] if span[1] <= end]
        pieces.append((start, end, inside))
        index += len(inside)
        last = end
    best = sorted(sorted(range(len(pieces)), key=lambda number: -len(pieces[number][2]))[: options.fragments])
    return [_marked(text, *pieces[number], options) for number in best]


def _word_start(text: str, start: int, limit: int) -> int:
    """The beginning of a word at `start` or after it, but not beyond `limit`."""
    if start == 0 or text[start - 1].isspace():
        return start
    while start < limit and not text[start].isspace():
        start += 1
    while start < limit and text[start].isspace():
        start += 1
    return start


def _cut(text: str, end: int) -> int:
    """The end of a word at `end` or up to 20 characters before it, else `end`."""
    if end >= len(text):
        return len(text)
    for back in range(20):
        if end - back > 0 and text[end - back].isspace():
            return end - back
    return end


def _marked(text: str, start: int, end: int, spans: list[Span], options: Options) -> str:
    shown = html.escape if options.html else str
    out: list[str] = []
    for first, last in spans:
        out += (shown(text[start:first]), options.before, shown(text[first:last]), options.after)
        start = last
    out.append(shown(text[start:end]))
    return "".join(out)


_OPTIONS = (
    "type",
    "pre_tags",
    "post_tags",
    "fragment_size",
    "number_of_fragments",
    "no_match_size",
    "require_field_match",
    "encoder",
)


def _options(body: Body, general: Options) -> Options:
    if body.has("type"):
        body["type"].one_of("plain", "unified")

    def tag(key: str, otherwise: str) -> str:
        if not body.has(key):
            return otherwise
        tags = list(body[key].items())
        if len(tags) != 1:
            raise body[key].error("one tag is expected")
        return tags[0].text()

    return Options(
        tag("pre_tags", general.before),
        tag("post_tags", general.after),
        body["fragment_size"].integer(18, (1 << 31) - 1) if body.has("fragment_size") else general.fragment_size,
        body["number_of_fragments"].integer(0, 100) if body.has("number_of_fragments") else general.fragments,
        body["no_match_size"].integer(0, 100_000) if body.has("no_match_size") else general.no_match_size,
        body["require_field_match"].boolean() if body.has("require_field_match") else general.same_field,
        body["encoder"].one_of("default", "html") == "html" if body.has("encoder") else general.html,
    )
