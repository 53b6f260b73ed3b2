"""What of a hit a search shows: `_source` with its filters, `fields` and `docvalue_fields`, out of the URL and the body."""

from __future__ import annotations

from collections.abc import Sequence

from chronik.search.body import Body
from chronik.search.highlight import parse_highlight
from chronik.search.rendering import DateFormat, FieldWish, Shape

MAX_PATTERNS = 100
"""Names in `_source`, and in `fields`."""
SHAPE_PARAMETERS = ("_source", "_source_includes", "_source_excludes", "docvalue_fields")

_MAX_NAME = 1000
_FORMATS: dict[str, DateFormat] = {
    "epoch_millis": "epoch_millis",
    "epoch_second": "epoch_second",
    "strict_date_optional_time": "iso",
    "strict_date_optional_time_nanos": "iso",
    "date_optional_time": "iso",
}


def shape_of(url: Body, body: Body, sort: bool) -> Shape:
    """What is to be shown; with `sort` the values that hits are sorted by as well. Raises QueryError."""
    source, includes, excludes = _source(url, body)
    wishes = [
        _field_wish(item) for item in (*_listed(url, "docvalue_fields"), *_named(body, "fields", "docvalue_fields"))
    ]
    if len(wishes) > MAX_PATTERNS:
        raise body.error(f"{len(wishes)} fields are asked for, {MAX_PATTERNS} are allowed")
    highlight = parse_highlight(body["highlight"]) if body.has("highlight") else None
    return Shape(source, includes, excludes, tuple(wishes), highlight, sort)


def _listed(url: Body, name: str) -> list[Body]:
    """The parts of a parameter that is a list."""
    return [Body(part, name) for part in url[name].text().split(",")] if url.has(name) else []


def _named(body: Body, *names: str) -> list[Body]:
    return [item for name in names if body.has(name) for item in body[name].items()]


def _field_wish(item: Body) -> FieldWish:
    if isinstance(item.value, str):
        return FieldWish(_pattern(item))
    item.known("field", "format", "include_unmapped")
    if item.has("include_unmapped") and item["include_unmapped"].boolean():
        raise item["include_unmapped"].error("a field is there or not: there are no others")
    if not item.has("format"):
        return FieldWish(_pattern(item["field"]))
    return FieldWish(_pattern(item["field"]), _FORMATS[item["format"].one_of(*_FORMATS)])


def _source(url: Body, body: Body) -> tuple[bool, tuple[str, ...], tuple[str, ...]]:
    """Whether the source is shown, what of it, and what not."""
    if any(url.has(name) for name in SHAPE_PARAMETERS[:3]):
        if body.has("_source"):
            raise body["_source"].error("it is in the URL too")
        if url.has("_source") and url["_source"].value in ("true", "false"):
            shown, named = url["_source"].value == "true", ["_source_includes"]
        else:
            shown, named = True, ["_source", "_source_includes"]
        includes = [item for name in named for item in _listed(url, name)]
        return shown, _patterns(includes, url), _patterns(_listed(url, "_source_excludes"), url)
    if not body.has("_source"):
        return True, (), ()
    given = body["_source"]
    if isinstance(given.value, bool):
        return given.value, (), ()
    if isinstance(given.value, dict):
        given.known("includes", "include", "excludes", "exclude")
        return (
            True,
            _patterns(_named(given, "includes", "include"), given),
            _patterns(_named(given, "excludes", "exclude"), given),
        )
    return True, _patterns(list(given.items()), given), ()


def _patterns(items: Sequence[Body], whole: Body) -> tuple[str, ...]:
    if len(items) > MAX_PATTERNS:
        raise whole.error(f"{len(items)} names, {MAX_PATTERNS} are allowed")
    return tuple(_pattern(item) for item in items)


def _pattern(item: Body) -> str:
    text = item.text()
    if not text or len(text) > _MAX_NAME:
        raise item.error("the name of a field, or a pattern of such with *, is expected")
    return text
