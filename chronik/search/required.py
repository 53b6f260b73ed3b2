"""Which tokens a record must have to be a hit: what signatures may be asked, so that they propose and never lose one.

A requirement is a token, or `AllOf` or `AnyOf` requirements; None is none: every record may be a hit. A record that matches
holds it with its signed tokens: those of its key, of its value as it stands and with JSON's escapes resolved, of the names and
values of its headers; and `NUMBER_MARKER` where the value has a number whose digits don't tell what it is equal to, such as
2.5e2 (see `chronik.native.numbers`).

So a clause on a path into the value requires the words of the path, which are names in the value, too. A number requires the
digits of its integer part, or the marker.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from typing import NamedTuple

from chronik.native.numbers import MARKER as NUMBER_MARKER
from chronik.search import regexp_parts
from chronik.search.analysis import cut, fold, is_word_part, word_spans, words
from chronik.search.dates import is_iso_date
from chronik.search.fields import Field, resolve
from chronik.search.mapping import Mapping
from chronik.search.numbers import integer_digits, parse_number
from chronik.search.query import And, AnyTerm, Boost, Exists, Nothing, Or, Query, Range, Regexp, Term, Wildcard
from chronik.search.wildcards import folded, parts

MAX_TOKENS = 16
"""Of one clause; the first are enough."""
MAX_CHOICES = 256
_MAX_SPELLINGS = 8


class AllOf(NamedTuple):
    """All of these."""

    parts: tuple[Requirement, ...]


class AnyOf(NamedTuple):
    """One of these, at least; of none, there is no such record."""

    parts: tuple[Requirement, ...]


Requirement = bytes | AllOf | AnyOf

IMPOSSIBLE = AnyOf(())


def requirement(query: Query, mapping: Mapping) -> Requirement | None:
    """What every record that matches has among its tokens; None where nothing is sure."""
    match query:
        case Nothing():
            return IMPOSSIBLE
        case And():
            return _all(requirement(clause, mapping) for clause in query.clauses)
        case Or():
            return _some([requirement(clause, mapping) for clause in query.clauses], query.minimum)
        case Boost():
            return requirement(query.clause, mapping)
        case Term() | AnyTerm() | Wildcard() | Regexp() | Range() | Exists():
            return _of_clause(query, resolve(query.field, mapping))
        case _:
            return None


def is_met(need: Requirement | None, tokens: frozenset[bytes] | set[bytes]) -> bool:
    """Whether the tokens hold it."""
    match need:
        case None:
            return True
        case bytes():
            return need in tokens
        case AllOf():
            return all(is_met(part, tokens) for part in need.parts)
        case AnyOf():
            return any(is_met(part, tokens) for part in need.parts)


def _all(needs: Iterable[Requirement | None]) -> Requirement | None:
    flat: list[Requirement] = []
    for need in needs:
        if isinstance(need, AllOf):
            flat.extend(need.parts)
        elif need is not None:
            flat.append(need)
    distinct = tuple(dict.fromkeys(flat))
    if not distinct:
        return None
    return distinct[0] if len(distinct) == 1 else AllOf(distinct)


def _some(needs: list[Requirement | None], minimum: int = 1) -> Requirement | None:
    sure = [need for need in needs if need is not None]
    if len(needs) - len(sure) >= minimum or len(sure) > MAX_CHOICES:
        return None
    flat: list[Requirement] = []
    for need in sure:
        flat.extend(need.parts if isinstance(need, AnyOf) else [need])
    distinct = tuple(dict.fromkeys(flat))
    return distinct[0] if len(distinct) == 1 else AnyOf(distinct)


def _of_clause(query: Term | AnyTerm | Wildcard | Regexp | Range | Exists, field: Field) -> Requirement | None:
    if field.source in ("timestamp", "offset", "partition", "topic"):
        return None
    need = None
    match query:
        case Term():
            need = _of_text(query.text, field, query.prefix)
        case AnyTerm():
            need = _some([_of_text(text, field) for text in query.texts])
        case Wildcard():
            need = _maybe_number(_tokens(_of_pattern(query.pattern)), field)
        case Regexp():
            need = _maybe_number(_of_regexp(query.pattern), field)
    return _all([need, _tokens(words(field.path))])


def _of_text(text: str, field: Field, prefix: bool = False) -> Requirement | None:
    if field.kind == "date" or (field.kind == "dynamic" and not prefix and is_iso_date(text)):
        return None
    number = parse_number(text)
    if field.kind == "number":
        return None if number is None else _of_number(integer_digits(number), field)
    if field.kind == "keyword" and prefix:
        return _maybe_number(_tokens(_whole_words(text, True, False)), field)
    found = words(text)
    if not found and field.kind != "keyword":
        return IMPOSSIBLE
    need = _tokens(found[:-1] if prefix else found)
    if field.kind != "dynamic":
        return _maybe_number(need, field)
    if number is None or prefix or field.source != "path":
        return need
    return _some([need, _of_number(integer_digits(number), field)])


def _of_number(digits: bytes | None, field: Field) -> Requirement | None:
    if digits is None:
        return None
    token = cut(digits.decode()).encode()
    return AnyOf((token, NUMBER_MARKER)) if field.source == "path" else token


_DIGITS = re.compile(rb"[0-9]*")


def _maybe_number(need: Requirement | None, field: Field) -> Requirement | None:
    """What a text requires; or the marker, where the text may be a number's, which the value may have in other digits."""
    if need is None or field.source != "path":
        return need
    tokens = [part for part in (need.parts if isinstance(need, AllOf) else (need,)) if isinstance(part, bytes)]
    if any(_DIGITS.fullmatch(token) is None for token in tokens):
        return need
    return _some([need, NUMBER_MARKER])


def _tokens(found: list[str]) -> Requirement | None:
    return _all(word.encode() for word in found[:MAX_TOKENS])


def _of_pattern(pattern: str) -> list[str]:
    """The whole words in a wildcard pattern."""
    taken = folded(parts(pattern))
    last = len(taken.items) - 1
    return [
        word for index in sorted(taken.literals) for word in _whole_words(taken.items[index], index == 0, index == last)
    ]


def _whole_words(text: str, at_start: bool, at_end: bool) -> list[str]:
    """The words of a part of a text that cannot go on beyond it. `at_start`, `at_end`: nothing is beyond."""
    found: list[str] = []
    for start, end, word in word_spans(text):
        begins = not is_word_part(text[start - 1]) if start else at_start
        if start and not begins and at_start:
            begins = all(map(is_word_part, text[:start]))  # marks at the very beginning are in no word
        if begins and (end < len(text) or at_end):
            found.append(word)
    return found


def _of_regexp(pattern: str) -> Requirement | None:
    every = regexp_parts.pieces(pattern)
    return None if every is None else _of_pieces(every)


def _of_pieces(part: regexp_parts.Piece | regexp_parts.Every | regexp_parts.Either) -> Requirement | None:
    if isinstance(part, regexp_parts.Every):
        return _all([_of_pieces(inner) for inner in part.parts])
    if isinstance(part, regexp_parts.Either):
        return _some([_of_pieces(inner) for inner in part.parts])
    if not part.folded:
        return _tokens(_whole_words(part.text, part.at_start, part.at_end))
    if not part.text.isascii():  # what is one letter in any case there may be several here
        return None
    return _all([_spellings(word) for word in _whole_words(fold(part.text), part.at_start, part.at_end)])


def _spellings(word: str) -> Requirement | None:
    """A word in any case: RE2 takes the long s for an s, which is another letter in tokens."""
    if 2 ** word.count("s") > _MAX_SPELLINGS:
        return None
    choices = itertools.product(*(("s", "\u017f") if char == "s" else (char,) for char in word))
    return _some(["".join(chars).encode() for chars in choices])
