"""Elasticsearch's simple query string, for search boxes: nearly whatever is typed is a query.

`+` is AND, `|` is OR, `-` before a clause negates it, quotes make a phrase, `~2` after one is its slop, `*` after a word makes
it a beginning, parentheses group, a backslash takes a character for itself. Clauses side by side are joined by the default
operator. As in Elasticsearch there is no precedence: operators are taken from left to right, and a negated clause is joined as
another would be. What has no meaning where it stands is left out; only a fuzzy word (`word~1`) is refused, as it is not built.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from chronik.search.analysis import words
from chronik.search.query import (
    NOTHING,
    Limits,
    Query,
    QueryError,
    Term,
    all_of,
    any_of,
    boosted,
    check_size,
    check_text,
    literal_pattern,
    negated,
    wildcard,
)

_TOKEN = re.compile(
    r'\s+|(?P<operator>[+|()-])|"(?P<phrase>(?:\\.|[^"\\])*+)"?(?:~(?P<slop>\d{1,3}))?|(?P<word>(?:\\.|[^\s+|()"\\])+)|.',
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_FUZZY = re.compile(r"(?:\\.|[^~\\])+~\d*", re.DOTALL)


def parse_simple(text: str, fields: Sequence[tuple[str, float]], default_operator: str, limits: Limits) -> Query:
    """The query that was typed. Raises QueryError only for one that is too large."""
    check_text(text, limits)
    tokens = list(_TOKEN.finditer(text))
    parser = _Parser(tokens, fields, default_operator, limits.depth)
    query = parser.level(0)
    while parser.position < len(tokens):  # a parenthesis too many
        parser.position += 1
        query = _joined(default_operator, query, parser.level(0))
    query = NOTHING if query is None else query
    check_size(query, limits)
    return query


class _Parser:
    def __init__(
        self, tokens: list[re.Match[str]], fields: Sequence[tuple[str, float]], operator: str, depth: int
    ) -> None:
        self.tokens = tokens
        self.position = 0
        self._fields = fields
        self._default = operator
        self._depth = depth

    def level(self, depth: int) -> Query | None:
        """What stands to the end, or to the parenthesis that closes the level."""
        if depth > self._depth:
            raise QueryError(f"the query is nested deeper than {self._depth} levels")
        query: Query | None = None
        operator = ""
        negative = False
        while self.position < len(self.tokens):
            token = self.tokens[self.position]
            kind = token["operator"]
            if kind == ")":
                break
            self.position += 1
            if kind == "+":
                operator = "AND"
            elif kind == "|":
                operator = "OR"
            elif kind == "-":
                negative = not negative
            else:
                clause = self._group(depth) if kind == "(" else self._leaf(token)
                if clause is None:
                    continue
                query = _joined(operator or self._default, query, negated(clause) if negative else clause)
                operator, negative = "", False
        return query

    def _group(self, depth: int) -> Query | None:
        query = self.level(depth + 1)
        self.position += 1  # the closing parenthesis, or the end
        return query

    def _leaf(self, token: re.Match[str]) -> Query | None:
        if token["phrase"] is not None:
            phrase = _ESCAPE.sub(r"\1", token["phrase"])
            slop = int(token["slop"] or 0)
            return self._everywhere([Term(name, phrase, slop) for name, _ in self._fields]) if words(phrase) else None
        if token["word"] is None:
            return None
        word = token["word"]
        if _FUZZY.fullmatch(word):
            raise QueryError("fuzzy terms are not supported", token.start())
        beginning = word.endswith("*") and not word.endswith("\\*")
        word = _ESCAPE.sub(r"\1", word[:-1] if beginning else word)
        if not words(word):
            return None
        if beginning:
            return self._everywhere([wildcard(name, literal_pattern(word) + "*") for name, _ in self._fields])
        return self._everywhere([Term(name, word) for name, _ in self._fields])

    def _everywhere(self, clauses: Sequence[Query]) -> Query:
        return any_of(boosted(clause, boost) for clause, (_, boost) in zip(clauses, self._fields, strict=True))


def _joined(operator: str, first: Query | None, second: Query | None) -> Query | None:
    if first is None or second is None:
        return second if first is None else first
    return all_of([first, second]) if operator == "AND" else any_of([first, second])
