"""What one clause of a query asks of one value, by the kind of its field.

A `Condition` says it for each form that a value can have: a text, a number, a boolean; and, for the raw value, its folded
bytes. `chronik.search.match` finds the values. The table in docs/search.md says the same in words.

=========  ===============================================================================================================
dynamic    a text has the words; a number is equal; `true` and `false`; an ISO date is also looked for as one, in texts that
           are dates and numbers that are epoch milliseconds. Ranges: see `chronik.search.ranges`
text       the words, whatever the value is: a number counts as its digits
keyword    the whole text, by the letter, as is; numbers and booleans as their text
number     numbers, and texts that are one
date       instants: ISO texts, and numbers as epoch milliseconds (or seconds, by the mapping)
boolean    true and false, and texts that say so
=========  ===============================================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from chronik.search.analysis import fold, words
from chronik.search.dates import instant_of_number, is_iso_date, parse_date, resolve_date
from chronik.search.fields import Field
from chronik.search.numbers import Number, number_in_text, parse_number, text_of_number
from chronik.search.query import AnyTerm, QueryError, Regexp, Term, Wildcard
from chronik.search.regexps import compile_regexp
from chronik.search.wildcards import Parts, compiled, folded, is_of_one_word, longest_literal, parts
from chronik.search.words import Finder, any_sequence, fitting_word, sequence

MAX_SLOP = 1000
MAX_SLOPPY_WORDS = 64


def no_text(_: str) -> bool:
    """No text fits."""
    return False


def no_number(_: Number) -> bool:
    """No number fits."""
    return False


def no_boolean(_: bool) -> bool:
    """No boolean fits."""
    return False


class Condition(NamedTuple):
    """Whether a value fits, in each form that it can have. `in_folded` and `in_bytes` are the same as `in_text`, where there is
    a quicker way for the raw value: by `Document.folded`, or its bytes.

    `needle`: folded bytes without which the text of a value has to have an escape to fit; None where there are none such.
    `cost` orders conditions; a term costs 1.
    """

    in_text: Callable[[str], bool] = no_text
    in_number: Callable[[Number], bool] = no_number
    in_boolean: Callable[[bool], bool] = no_boolean
    in_folded: Callable[[bytes], bool] | None = None
    needle: bytes | None = None
    cost: float = 1.0
    in_bytes: Callable[[bytes], bool] | None = None


def instants(field: Field, fits: Callable[[int], bool]) -> Condition:
    """A condition on instants, in ms."""

    def in_text(text: str) -> bool:
        instant = parse_date(text, field.seconds)
        return instant is not None and fits(instant)

    def in_number(number: Number) -> bool:
        instant = instant_of_number(number, field.seconds)
        return instant is not None and fits(instant)

    return Condition(in_text, in_number, cost=3.0)


def span(text: str, field: Field, now_ms: int) -> tuple[int, int]:
    """The first and the last instant that a text in a query means. Raises QueryError."""
    return (
        resolve_date(text, now_ms, seconds=field.seconds),
        resolve_date(text, now_ms, round_up=True, seconds=field.seconds),
    )


def means_date(query: Term | AnyTerm, field: Field) -> bool:
    """Whether a term of a dynamic field means a date as well: it is one, and no mere number."""
    if field.kind != "dynamic":
        return False
    if isinstance(query, AnyTerm):
        return any(map(is_iso_date, query.texts))
    return not query.slop and not query.prefix and is_iso_date(query.text)


def numbers(fits: Callable[[Number], bool]) -> Condition:
    """A condition on numbers, and texts that are one."""

    def in_text(text: str) -> bool:
        number = number_in_text(text)
        return number is not None and fits(number)

    return Condition(in_text, fits, cost=2.0)


def of_term(query: Term, field: Field, now_ms: int) -> Condition:
    """The condition of a term. Raises QueryError for a text that cannot be one of the field's."""
    kind, text = field.kind, query.text
    if kind == "dynamic" or kind == "text":
        condition = _words_of(query, as_words=kind == "text")
        return _or_instants(condition, [text], field, now_ms) if means_date(query, field) else condition
    if kind == "keyword":
        if query.prefix:
            return _texts(lambda value: value.startswith(text), None)
        return _texts(lambda value: value == text, None if _may_be_number(text) else fold(text).encode())
    if query.prefix:
        raise QueryError(f"{field.name}: the beginning of a word is looked for in texts, not in a field of kind {kind}")
    if kind == "number":
        wanted = number_of(text, field)
        return numbers(lambda value: value == wanted)
    if kind == "date":
        first, last = span(text, field, now_ms)
        return instants(field, lambda value: first <= value <= last)
    return _boolean([text], field)


def of_any_term(query: AnyTerm, field: Field, now_ms: int) -> Condition:
    """The condition of many terms at once. Raises QueryError as `of_term`."""
    kind = field.kind
    if kind == "keyword":
        exact = frozenset(query.texts)
        return _texts(lambda value: value in exact, None)
    if kind == "number":
        wanted = frozenset(number_of(text, field) for text in query.texts)
        return numbers(lambda value: value in wanted)
    if kind == "date":
        spans = [span(text, field, now_ms) for text in query.texts]
        return instants(field, lambda value: any(first <= value <= last for first, last in spans))
    if kind == "boolean":
        return _boolean(query.texts, field)
    analysed = [words(text) for text in query.texts]
    in_folded, in_text = any_sequence(analysed)
    if kind == "text":
        return Condition(
            in_text, lambda n: in_text(text_of_number(n)), lambda b: in_text(_text_of(b)), in_folded, None, 3.0
        )
    equal = frozenset(number for text in query.texts if (number := parse_number(text)) is not None)
    booleans = frozenset(found[0] for found in analysed if len(found) == 1)
    condition = Condition(in_text, lambda n: n in equal, lambda b: _text_of(b) in booleans, in_folded, None, 3.0)
    return (
        _or_instants(condition, filter(is_iso_date, query.texts), field, now_ms)
        if means_date(query, field)
        else condition
    )


def of_wildcard(query: Wildcard, field: Field) -> Condition:
    """The condition of a pattern with wildcards. Raises QueryError for kinds that have no characters."""
    _has_characters(field, "wildcards")
    pattern = parts(query.pattern)
    if field.kind in ("keyword", "number"):
        fits = compiled(pattern).fullmatch
        return _texts(lambda value: fits(value) is not None, _needle_of(folded(pattern)), 2.0)
    pattern = folded(pattern)
    regexp = compiled(pattern)
    literal = longest_literal(pattern)
    finder = fitting_word(regexp, literal) if is_of_one_word(pattern) else _whole(regexp, literal)
    return Condition(
        finder.in_text,
        lambda n: regexp.fullmatch(text_of_number(n)) is not None,
        lambda b: regexp.fullmatch(_text_of(b)) is not None,
        finder.in_folded,
        _needle_of(pattern),
        4.0,
    )


def of_regexp(query: Regexp, field: Field) -> Condition:
    """The condition of a regular expression. Raises QueryError for one that is none, and for kinds without characters."""
    _has_characters(field, "regular expressions")
    search = compile_regexp(query.pattern, field.name).search

    def in_bytes(value: bytes) -> bool:
        return search(value if value.isascii() else value.decode("utf-8", "replace").encode()) is not None

    return _texts(lambda value: search(value.encode()) is not None, None, 5.0)._replace(in_bytes=in_bytes)


def _or_instants(condition: Condition, texts: Iterable[str], field: Field, now_ms: int) -> Condition:
    """The condition, or that a value is an instant within one of these dates."""
    spans = [span(text, field, now_ms) for text in texts]
    within = instants(field, lambda value: any(first <= value <= last for first, last in spans))
    return Condition(
        lambda text: condition.in_text(text) or within.in_text(text),
        lambda number: condition.in_number(number) or within.in_number(number),
        condition.in_boolean,
        cost=condition.cost + within.cost,
    )


def _words_of(query: Term, as_words: bool) -> Condition:
    wanted = words(query.text)
    if query.slop > MAX_SLOP:
        raise QueryError(f"a slop of {query.slop}, {MAX_SLOP} is allowed")
    if query.slop and len(wanted) > MAX_SLOPPY_WORDS:
        raise QueryError(f"a phrase of {len(wanted)} words with a slop; {MAX_SLOPPY_WORDS} words are allowed")
    finder = sequence(wanted, query.slop, query.prefix)
    cost = 1.0 if not query.slop else 3.0
    if as_words:
        in_text = finder.in_text
        return Condition(
            in_text, lambda n: in_text(text_of_number(n)), lambda b: in_text(_text_of(b)), finder.in_folded, None, cost
        )
    number = None if query.prefix else parse_number(query.text)
    boolean = not query.prefix and len(wanted) == 1 and wanted[0] in ("true", "false")
    needle = None if number is not None or not wanted else max(wanted, key=len).encode()
    return Condition(
        finder.in_text,
        no_number if number is None else lambda n: n == number,
        (lambda b: _text_of(b) == wanted[0]) if boolean else no_boolean,
        finder.in_folded,
        needle,
        cost,
    )


def _texts(fits: Callable[[str], bool], needle: bytes | None, cost: float = 1.0) -> Condition:
    """A condition on whole texts, which numbers and booleans are too."""
    return Condition(
        fits, lambda n: fits(text_of_number(n)), lambda b: fits(_text_of(b)), None, needle if needle else None, cost
    )


def _boolean(texts: Iterable[str], field: Field) -> Condition:
    wanted = set()
    for text in texts:
        if text not in ("true", "false"):
            raise QueryError(f"{field.name}: `{text:.50}` is neither true nor false, as the mapping says")
        wanted.add(text)
    return Condition(lambda value: value in wanted, no_number, lambda b: _text_of(b) in wanted)


def _whole(regexp: re.Pattern[str], literal: str) -> Finder:
    """Whether a whole text, in lower case, fits."""
    needle = literal.encode()

    def in_folded(text: bytes) -> bool:
        return needle in text and regexp.fullmatch(text.decode()) is not None

    return Finder(in_folded, lambda text: regexp.fullmatch(fold(text)) is not None)


def number_of(text: str, field: Field) -> Number:
    """The number that a text in a query is. Raises QueryError."""
    number = parse_number(text)
    if number is None:
        raise QueryError(f"{field.name}: `{text:.50}` is no number, as the field's values are")
    return number


def _has_characters(field: Field, what: str) -> None:
    if field.kind in ("date", "boolean"):
        raise QueryError(f"{field.name}: {what} are looked for in texts, not in a field of kind {field.kind}")


def _may_be_number(text: str) -> bool:
    return parse_number(text) is not None


_DIGITS_ONLY = re.compile(r"[-0-9.e+]*")


def _needle_of(pattern: Parts) -> bytes | None:
    """The longest literal of a folded pattern, unless a number could fit, which may be written in other digits."""
    if all(_DIGITS_ONLY.fullmatch(text) for text in pattern.literal_texts()):
        return None
    return longest_literal(pattern).encode()


def _text_of(boolean: bool) -> str:
    return "true" if boolean else "false"
