r"""Byte patterns of which every hit has one: for a pre-filter that runs over whole blocks of records, such as hyperscan's.

`literals` gives regular expressions over bytes, made of literals, groups and alternatives only, to be compiled without regard
to the case of ASCII letters and without UTF-8 mode. A record that matches has one of them, at least, in the bytes of its key,
its value, or a header's value or name. None: no such patterns are known. `all_literals` gives several such sets, where a hit
has one of each.

A character stands for every code point that search folds to it: `k` is also U+212A, the Kelvin sign. In a value's fields, which
may be written with escapes, a backslash is an alternative to the literal; a number may be written with an exponent.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from chronik.search import regexp_parts
from chronik.search.analysis import fold, origins, words
from chronik.search.dates import is_iso_date
from chronik.search.fields import Field, resolve
from chronik.search.mapping import Mapping
from chronik.search.numbers import integer_digits, parse_number
from chronik.search.query import And, AnyTerm, Boost, Exists, Or, Query, Range, Regexp, Term, Wildcard
from chronik.search.wildcards import parts

MAX_PATTERNS = 64
MIN_CHARACTERS = 2
"""Shorter literals are nearly everywhere."""
_MAX_CHARACTERS = 48
_MAX_FORMS = 6
"""Characters of a pattern that have several forms: each takes longer to compile than ten plain patterns."""
_FORM_COST = 12
_MAX_SETS = 4
_BACKSLASH = rb"\\"
_EXPONENT = rb"[0-9][eE]"
_REPLACEMENT = "\ufffd"
WRITTEN_OTHERWISE = frozenset((_BACKSLASH, _EXPONENT))
"""The patterns that say that a value may be written in other bytes than a literal's: with an escape, or an exponent."""


class _Choice(NamedTuple):
    """Patterns of which a hit has one; `named`: they are only names of fields, which many records have."""

    patterns: frozenset[bytes]
    named: bool = False

    def worth(self) -> tuple[bool, int, int]:
        """The more, the fewer records have one of them, by its looks: the shortest of them is long."""
        lengths = [len(pattern) for pattern in self.patterns if pattern not in (_BACKSLASH, _EXPONENT)]
        return not self.named, min(lengths, default=0), -len(self.patterns)


def literals(query: Query, mapping: Mapping) -> tuple[bytes, ...] | None:
    """The patterns, sorted."""
    best = _best(_found(query, mapping))
    if best is None or len(best.patterns) > MAX_PATTERNS:
        return None
    return tuple(sorted(best.patterns))


def all_literals(query: Query, mapping: Mapping) -> list[frozenset[bytes]]:
    """Sets of patterns: every hit has one of each. The most telling is the first; none where none are known."""
    found = sorted(_found(query, mapping), key=_Choice.worth, reverse=True)
    if not found or len(found[0].patterns) > MAX_PATTERNS:
        return []
    sets = dict.fromkeys(choice.patterns for choice in found if len(choice.patterns) <= MAX_PATTERNS)
    return list(sets)[:_MAX_SETS]


_Choices = list[_Choice]
"""Of each of these a hit has a pattern."""


def _found(query: Query, mapping: Mapping) -> _Choices:
    match query:
        case And():
            return [choice for clause in query.clauses for choice in _found(clause, mapping)]
        case Or():
            return _union([_found(clause, mapping) for clause in query.clauses]) if query.minimum else []
        case Boost():
            return _found(query.clause, mapping)
        case Term() | AnyTerm() | Wildcard() | Regexp() | Range() | Exists():
            return _of_clause(query, resolve(query.field, mapping))
        case _:
            return []


def _best(choices: _Choices) -> _Choice | None:
    """The one to look for."""
    return max(choices, key=_Choice.worth, default=None)


def _union(alternatives: list[_Choices]) -> _Choices:
    """What hits have of which one of these is true."""
    union: set[bytes] = set()
    named = False
    for choices in alternatives:
        best = _best(choices)
        if best is None:
            return []
        union |= best.patterns
        named = named or best.named
    return [_Choice(frozenset(union), named)]


def _of_clause(query: Term | AnyTerm | Wildcard | Regexp | Range | Exists, field: Field) -> _Choices:
    if field.source in ("timestamp", "offset", "partition", "topic"):
        return []
    found: _Choices = []
    match query:
        case Term():
            found = _of_text(query.text, field, query.prefix)
        case AnyTerm() if len(query.texts) <= MAX_PATTERNS:
            found = _union([_of_text(text, field) for text in query.texts])
        case Wildcard():
            found = _of_texts(parts(query.pattern).literal_texts(), field)
        case Regexp():
            every = regexp_parts.pieces(query.pattern)
            found = [] if every is None else _of_pieces(every, field)
    if field.source == "path":
        name = _pattern(max(field.path.split("."), key=len))
        return found if name is None else [*found, _choice(name, _BACKSLASH, named=True)]
    return found


def _of_text(text: str, field: Field, prefix: bool = False) -> _Choices:
    number = parse_number(text)
    if field.kind == "date" or (field.kind == "dynamic" and not prefix and is_iso_date(text)):
        return []
    if number is not None and (field.kind == "number" or (field.source == "path" and field.kind != "text")):
        digits = integer_digits(number)
        pattern = None if digits is None else _pattern(digits.decode())
        if pattern is None:
            return []
        patterns = {pattern}
        if "e" in text.lower():  # a text may have the very words of the query, and is no number for that
            patterns.add(_pattern(max(words(text), key=len)) or _EXPONENT)
        return [_choice(*patterns, _BACKSLASH, _EXPONENT) if field.source == "path" else _choice(*patterns)]
    if field.kind == "keyword":
        return _of_texts([text], field)
    return _of_texts(words(text), field)


def _of_texts(texts: list[str], field: Field) -> _Choices:
    """Of texts that are all there, their longest pieces."""
    pieces = sorted(dict.fromkeys(piece for text in texts for piece in text.split(_REPLACEMENT)), key=len, reverse=True)
    return [choice for piece in pieces[:_MAX_SETS] for choice in _in_field(_pattern(piece), piece, field)]


def _choice(*patterns: bytes, named: bool = False) -> _Choice:
    return _Choice(frozenset(patterns), named)


def _in_field(pattern: bytes | None, text: str, field: Field) -> _Choices:
    if pattern is None:
        return []
    if field.source != "path":
        return [_choice(pattern)]
    may_be_number = re.fullmatch(r"[-0-9.]*", text) is not None
    return [_choice(pattern, _BACKSLASH, _EXPONENT) if may_be_number else _choice(pattern, _BACKSLASH)]


def _of_pieces(part: regexp_parts.Every | regexp_parts.Either, field: Field) -> _Choices:
    found: list[_Choices] = []
    for inner in part.parts:
        if not isinstance(inner, regexp_parts.Piece):
            found.append(_of_pieces(inner, field))
            continue
        if inner.folded and not inner.text.isascii():
            continue
        piece = max(inner.text.split(_REPLACEMENT), key=len)
        found.append(_in_field(_pattern(piece, any_s=inner.folded), piece, field))
    return _union(found) if isinstance(part, regexp_parts.Either) else [each for one in found for each in one]


def cost(pattern: bytes) -> int:
    """What it costs to compile a pattern among many: 1 for a plain one, some 30 us."""
    return 1 + _FORM_COST * pattern.count(b"(?:")


def _pattern(text: str, any_s: bool = False) -> bytes | None:
    """A pattern for the text, or the best part of it, in any form that folds to it. `any_s`: the long s is an s, too."""
    folded = fold(text)
    if len(folded) < MIN_CHARACTERS:
        return None
    characters = [_character(char, any_s and char == "s") for char in folded]
    first, following = _window([character.startswith(b"(?:") for character in characters])
    return b"".join(characters[first:following])


def _window(several: list[bool]) -> tuple[int, int]:
    """The longest run, the first of such, of at most `_MAX_CHARACTERS`, at most `_MAX_FORMS` of which have several forms."""
    best = (0, 0)
    first = forms = 0
    for at, is_one in enumerate(several):
        forms += is_one
        while forms > _MAX_FORMS or at - first >= _MAX_CHARACTERS:
            forms -= several[first]
            first += 1
        if at + 1 - first > best[1] - best[0]:
            best = first, at + 1
    return best


@cache
def _character(char: str, any_s: bool) -> bytes:
    forms = [char, *(form for form in origins().get(char, ()) if not (char.isascii() and form.isascii()))]
    if any_s:
        forms.append("\u017f")
    choices = [_escaped(form.encode()) for form in forms]
    return choices[0] if len(choices) == 1 else b"(?:" + b"|".join(choices) + b")"


def _escaped(data: bytes) -> bytes:
    return b"".join(bytes((byte,)) if chr(byte).isalnum() and byte < 128 else b"\\x%02x" % byte for byte in data)
