"""The query string, a language after Lucene's: `status:500 AND "connection reset" NOT path:/health took:>250 /time.*out/`.

A hand-written parser, one pass, one level of recursion for each parenthesis. Where Lucene's own grammar surprises, this has
the plain boolean reading:

- NOT binds before AND, AND before OR. Clauses that merely stand side by side are joined by the default operator (OR, as in
  Elasticsearch), which binds as that operator does.
- `+a` must hold and `-a`, `!a` or `NOT a` must not, for the whole of the parenthesis; with a `+` the plain clauses are
  optional. A negation beside a written OR is an operand of it: `a OR NOT b`.
- `(a b c)~2`: two of the three at least.
- `/` begins a regular expression only if the next `/` ends one (the clause ends there, or `i` follows for either case); else
  it is text, so that `path:/health` needs no quotes.

The grammar is in docs/search.md. Errors say why and at which position, in code points from 0. A fuzzy term is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from chronik.search.query import (
    ALL,
    DEFAULT_LIMITS,
    Exists,
    Limits,
    Query,
    QueryError,
    Term,
    all_of,
    any_of,
    any_term,
    between,
    boosted,
    check_size,
    ids,
    negated,
    regexp,
    wildcard,
)

_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"""((?:\\.|[^\s:()\[\]{}"^~*?\\])+):""", re.DOTALL)
_BARE = re.compile(r"""(?:\\.|[^\s()\[\]{}"^~\\])+""", re.DOTALL)
_QUOTED = re.compile(r'"((?:\\.|[^"\\])*+)"', re.DOTALL)
_REGEXP = re.compile(r"/((?:\\.|[^/\\])++)(?<![^\\][ \t\r\n:])/(i?)(?=[\s)^]|\Z)", re.DOTALL)
_OPERATOR = re.compile(r"(AND|OR)(?=[\s(\"]|\Z)|(&&|\|\|)")
_NEGATION = re.compile(r"NOT(?=[\s(\"]|\Z)|[!-]")
_COMPARISON = re.compile(r"([<>]=?)\s*")
_RANGE_TO = re.compile(r"\s+TO\s+")
_BOUND = re.compile(r"(?:\\.|[^\s\]}\\])+", re.DOTALL)
_SET = re.compile(r"IN\s*\[")
_BOOST = re.compile(r"\^([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)")
_COUNT = re.compile(r"~([0-9]{1,6})")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_UNESCAPED_WILD = re.compile(r"\\.|([*?])", re.DOTALL)
_COLON = re.compile(r"(?:\\.|[^:\\])*+:", re.DOTALL)
_CLAUSE_END = re.compile(r"[\s)]|\Z")

Fields = Sequence[tuple[str, float]]
"""Names of fields and their boosts."""


def parse(
    text: str,
    fields: Fields = (("value", 1.0),),
    default_operator: str = "OR",
    limits: Limits = DEFAULT_LIMITS,
) -> Query:
    """The query that the text says; clauses without a field are looked for in `fields`. Raises QueryError."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as problem:
        raise QueryError("half of a surrogate pair", problem.start) from None
    if size > limits.query_bytes:
        raise QueryError(f"a query string of {size} bytes, {limits.query_bytes} are allowed")
    query = _Parser(text, tuple(fields), default_operator == "AND", limits).whole()
    check_size(query, limits)
    return query


class _Element:
    """One part of what OR joins: with what sign, and whether a written OR stands before it.

    `beside` are its own parts, where they only stand side by side (under AND as the default operator).
    """

    __slots__ = ("after_or", "beside", "query", "sign")

    def __init__(self, sign: str, query: Query, after_or: bool, beside: list[tuple[str, Query]]) -> None:
        self.sign = sign
        self.query = query
        self.after_or = after_or
        self.beside = beside


class _Parser:
    def __init__(self, text: str, fields: tuple[tuple[str, float], ...], and_is_default: bool, limits: Limits) -> None:
        self._text = text
        self._fields = fields
        self._and_is_default = and_is_default
        self._limits = limits
        self._position = 0
        self._depth = 0
        self._clauses = 0

    def whole(self) -> Query:
        elements = self._elements(self._fields)
        if self._position < len(self._text):
            raise self._error("a closing parenthesis that none opens")
        if not elements:
            raise self._error("the query is empty (* finds every record)", 0)
        return _joined(elements)

    # Boolean structure

    def _elements(self, fields: tuple[tuple[str, float], ...]) -> list[_Element]:
        """The parts that OR joins, to the end of the text or of the parenthesis."""
        elements: list[_Element] = []
        while True:
            self._skip_space()
            if self._at_end():
                return elements
            after_or = False
            operator = self._take_operator()
            if operator is not None:
                if not elements:
                    raise self._error(f"nothing stands before {operator}", self._position - len(operator))
                after_or = True  # AND is taken by what stands before it
                self._skip_space()
            elements.append(self._conjunction(fields, after_or))

    def _conjunction(self, fields: tuple[tuple[str, float], ...], after_or: bool) -> _Element:
        operands = [self._operand(fields)]
        written = False
        while True:
            back = self._position
            self._skip_space()
            start = self._position
            operator = None if self._at_end() else self._take_operator()
            if operator in ("AND", "&&"):
                written = True
                self._skip_space()
            elif operator is not None or self._at_end() or not self._and_is_default:
                self._position = start if operator is not None else back
                break
            operands.append(self._operand(fields))
        if len(operands) == 1:
            return _Element(*operands[0], after_or, operands)
        query = all_of(negated(query) if sign == "-" else query for sign, query in operands)
        return _Element("", query, after_or, [("", query)] if written else operands)

    def _operand(self, fields: tuple[tuple[str, float], ...]) -> tuple[str, Query]:
        start = self._position
        sign = ""
        if self._text.startswith("+", start):
            sign = "+"
            self._position += 1
        else:
            while found := _NEGATION.match(self._text, self._position):
                sign = "" if sign else "-"
                self._position = found.end()
                if found.group() == "NOT":
                    self._skip_space()
        if self._at_end() or self._take_operator():
            raise self._error("a clause is missing here")
        if self._text[self._position].isspace():
            raise self._error(f"nothing follows the {self._text[start]}", start)
        query = self._clause(fields)
        self._clauses += 1
        if self._clauses > self._limits.clauses:
            raise self._error(f"the query has more than {self._limits.clauses} clauses")
        return sign, query

    def _group(self, fields: tuple[tuple[str, float], ...]) -> Query:
        opened = self._position
        self._position += 1
        self._depth += 1
        if self._depth > self._limits.depth:
            raise self._error(f"the query is nested deeper than {self._limits.depth} levels", opened)
        elements = self._elements(fields)
        if self._position >= len(self._text):
            raise self._error("nothing closes the parenthesis", opened)
        self._position += 1
        self._depth -= 1
        if not elements:
            raise self._error("the parentheses are empty", opened)
        count = self._take(_COUNT)
        if count is None:
            return _joined(elements)
        counted = [
            _Element(*part, element.after_or and part is element.beside[0], [])
            for element in elements
            for part in element.beside
        ]
        return _joined(counted, int(count[1]))

    # One clause

    def _clause(self, fields: tuple[tuple[str, float], ...]) -> Query:
        start = self._position
        if self._text.startswith("*:*", start):
            self._position += 3
            query: Query = ALL
        elif not _REGEXP.match(self._text, start) and (named := self._take(_NAME)):
            self._skip_space()
            query = self._named(named, start)
        else:
            query = self._value(fields)
            if _COLON.match(self._text, start, self._position) and self._text[start] not in '("[{/<>':
                raise self._error("a field's name cannot have wildcards", start)
        boost = self._take(_BOOST)
        if boost is not None:
            factor = float(boost[1])
            if not math.isfinite(factor):
                raise self._error(f"a boost of {boost[1]}", boost.start())
            query = boosted(query, factor)
        self._check_end(start)
        return query

    def _check_end(self, start: int) -> None:
        if _CLAUSE_END.match(self._text, self._position):
            return
        char = self._text[self._position]
        if char == "~":
            raise self._error("fuzzy terms are not supported (~ follows phrases and parentheses only)")
        hint = "put the text into quotes, or a backslash before it" if self._position > start else "nothing opens it"
        raise self._error(f"an unexpected {char} ({hint})")

    def _named(self, named: re.Match[str], start: int) -> Query:
        if self._position >= len(self._text) or self._text[self._position] == ")":
            raise self._error(f"nothing follows {named[1]}:")
        if named[1] == "_exists_":
            taken = self._take(_BARE) or self._take(_QUOTED)
            if taken is None:
                raise self._error("_exists_: wants the name of a field")
            return Exists(_unescaped(taken[1] if taken.re is _QUOTED else taken[0]))
        field = _unescaped(named[1])
        if self._take(_SET):
            return self._set(field, start)
        if field == "_id":
            taken = self._take(_QUOTED)
            return self._located(lambda: ids([_unescaped(taken[1]) if taken else _unescaped(self._bare())]), start)
        return self._value(((field, 1.0),))

    def _value(self, fields: tuple[tuple[str, float], ...]) -> Query:
        text, position = self._text, self._position
        char = text[position]
        if char == "(":
            return self._group(fields)
        if char == '"':
            return self._phrase(fields)
        if char in "[{":
            lower, upper, include_lower, include_upper = self._range()
            return _everywhere(fields, lambda field: between(field, lower, upper, include_lower, include_upper))
        if found := self._take(_REGEXP):
            pattern = f"(?i){found[1]}" if found[2] else found[1]
            return _everywhere(fields, lambda field: regexp(field, pattern))
        if found := self._take(_COMPARISON):
            bound = self._bound(_BARE)
            closed = found[1].endswith("=")
            if found[1][0] == ">":
                return _everywhere(fields, lambda field: between(field, bound, None, include_lower=closed))
            return _everywhere(fields, lambda field: between(field, None, bound, include_upper=closed))
        bare = self._bare()
        if any(match[1] for match in _UNESCAPED_WILD.finditer(bare)):
            if bare == "*" and fields is self._fields:
                return ALL
            pattern = _UNESCAPED_WILD.sub(_kept_for_patterns, bare)
            return _everywhere(fields, lambda field: wildcard(field, pattern))
        word = _unescaped(bare)
        return _everywhere(fields, lambda field: Term(field, word))

    def _phrase(self, fields: tuple[tuple[str, float], ...]) -> Query:
        found = self._take(_QUOTED)
        if found is None:
            raise self._error("nothing closes the quotes")
        phrase = _unescaped(found[1])
        prefix = self._text.startswith("*", self._position)
        self._position += prefix
        count = self._take(_COUNT)
        slop = 0 if count is None else int(count[1])
        return _everywhere(fields, lambda field: Term(field, phrase, slop, prefix))

    def _range(self) -> tuple[str | None, str | None, bool, bool]:
        opened = self._position
        self._position += 1
        self._skip_space()
        lower = self._bound(_BOUND, open_allowed=True)
        if not self._take(_RANGE_TO):
            raise self._error("a range is written [lower TO upper]; TO is expected here")
        upper = self._bound(_BOUND, open_allowed=True)
        self._skip_space()
        if self._position >= len(self._text) or self._text[self._position] not in "]}":
            raise self._error("nothing closes the range", opened)
        self._position += 1
        return lower, upper, self._text[opened] == "[", self._text[self._position - 1] == "]"

    def _set(self, field: str, start: int) -> Query:
        opened = self._position - 1
        texts: list[str] = []
        while True:
            self._skip_space()
            if self._position >= len(self._text):
                raise self._error("nothing closes the set", opened)
            if self._text[self._position] == "]":
                self._position += 1
                break
            texts.append(self._bound(_BOUND) or "")
        if not texts:
            raise self._error("the set is empty", opened)
        return self._located(lambda: ids(texts) if field == "_id" else any_term(field, texts), start)

    def _bound(self, bare: re.Pattern[str], open_allowed: bool = False) -> str | None:
        """A bound of a range; None where it is `*` and may be open."""
        if self._text.startswith('"', self._position):
            found = self._take(_QUOTED)
            if found is None:
                raise self._error("nothing closes the quotes")
            return _unescaped(found[1])
        found = self._take(bare)
        if found is None:
            raise self._error("a value is missing here")
        if open_allowed and found[0] == "*":
            return None
        return _unescaped(found[0])

    def _bare(self) -> str:
        found = self._take(_BARE)
        if found is not None:
            return found[0]
        char = self._text[self._position : self._position + 1]
        if not char:
            raise self._error("a value is missing here")
        if char == "\\":
            raise self._error("nothing follows the backslash")
        raise self._error(f"an unexpected {char} (put a backslash before it, or the text into quotes)")

    # The text

    def _located(self, make: Callable[[], Query], start: int) -> Query:
        try:
            return make()
        except QueryError as problem:
            raise self._error(problem.reason, start) from None

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self._text, self._position)
        if match is not None:
            self._position = match.end()
        return match

    def _take_operator(self) -> str | None:
        match = self._take(_OPERATOR)
        return None if match is None else match[0]

    def _skip_space(self) -> None:
        self._take(_SPACE)

    def _at_end(self) -> bool:
        return self._position >= len(self._text) or self._text[self._position] == ")"

    def _error(self, reason: str, position: int | None = None) -> QueryError:
        return QueryError(reason, self._position if position is None else position)


def _joined(elements: list[_Element], minimum: int | None = None) -> Query:
    """The parts of one parenthesis as one query; `minimum` of the optional ones, where it was written."""
    required: list[Query] = []
    optional: list[Query] = []
    forbidden: list[Query] = []
    for index, element in enumerate(elements):
        beside_or = element.after_or or (index + 1 < len(elements) and elements[index + 1].after_or)
        if element.sign == "+":
            required.append(element.query)
        elif element.sign == "-" and not beside_or:
            forbidden.append(negated(element.query))
        else:
            optional.append(negated(element.query) if element.sign == "-" else element.query)
    if minimum is not None:
        required.append(any_of(optional, minimum))
    elif optional:
        required.append(any_of(optional, 0 if required else 1))
    return all_of([*required, *forbidden])


def _everywhere(fields: tuple[tuple[str, float], ...], make: Callable[[str], Query]) -> Query:
    return any_of(boosted(make(field), boost) for field, boost in fields)


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(r"\1", text)


def _kept_for_patterns(match: re.Match[str]) -> str:
    """In a pattern, escapes stay only before characters that are wild."""
    token = match.group()
    return token if token in ("*", "?", "\\*", "\\?", "\\\\") else token[1:]
