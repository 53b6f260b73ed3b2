"""`_msearch`: several searches in one body, a line that says where, and a line that says what, for each."""

from __future__ import annotations

from chronik.listeners.http import Refusal
from chronik.listeners.search_http import Call, refusal_of
from chronik.search.body import Body
from chronik.search.query import QueryError
from chronik.search.requests import TUNING, json_body

MAX_SEARCHES = 100
_MAX_HEADER = 4096
_SWITCHES = ("ignore_unavailable", "allow_no_indices")
_OF_ALL = ("rest_total_hits_as_int", "typed_keys", "search_type", "expand_wildcards", *_SWITCHES)
"""Parameters of the URL that hold for every search."""


def multiple(call: Call) -> list[Call | Refusal]:
    """The searches, or what is wrong with one. Raises Refusal for what is wrong with the whole."""
    common = {}
    for name, text in call.parameters.items():
        if name in _OF_ALL:
            common[name] = text
        elif name not in TUNING and name != "max_concurrent_searches":
            raise Refusal(400, f"unrecognized parameter `{name:.50}`")
    lines = call.content.split(b"\n", 2 * MAX_SEARCHES + 1)
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise Refusal(400, "the body is missing: a header and a search, a line each")
    if len(lines) > 2 * MAX_SEARCHES:
        raise Refusal(400, f"at most {MAX_SEARCHES} searches are allowed, of two lines each")
    if len(lines) % 2:
        raise Refusal(400, "the last header has no search after it: each is a line of its own")
    searches: list[Call | Refusal] = []
    for header, search in zip(lines[::2], lines[1::2], strict=True):
        try:
            names, parameters = _header(header, call.names)
        except QueryError as fault:
            searches.append(refusal_of(fault))
        else:
            searches.append(Call(names, {**common, **parameters}, search))
    return searches


def _header(line: bytes, names: str) -> tuple[str, dict[str, str]]:
    """The names of topics, and parameters, that a header has."""
    if len(line) > _MAX_HEADER:
        raise QueryError(f"a header has at most {_MAX_HEADER} bytes", path="header")
    body = json_body(line)
    parameters: dict[str, str] = {}
    for name in body.names():
        given = Body(body.value[name], f"header.{name}")  # type: ignore[index]
        if given.value is None or name in TUNING:
            continue
        if name in ("index", "indices"):
            names = ",".join(item.text() for item in given.items())
        elif name in _SWITCHES:
            parameters[name] = "true" if given.boolean() else "false"
        elif name == "expand_wildcards":
            parameters[name] = ",".join(item.text() for item in given.items())
        elif name == "search_type":
            parameters[name] = given.text()
        else:
            raise given.error("not supported")
    return names, parameters
