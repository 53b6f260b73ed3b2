"""Where in a text a clause found what it looks for: the places that highlighting marks.

Words are marked one by one, also those of a phrase; an exact value or a whole pattern as a whole; of a regular expression each
part that fits. Ranges and existence mark nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from chronik.search.analysis import word_spans, words
from chronik.search.conditions import of_term, of_wildcard
from chronik.search.fields import Field
from chronik.search.query import AnyTerm, Query, Regexp, Term, Wildcard
from chronik.search.regexps import compile_regexp
from chronik.search.wildcards import compiled, folded, is_of_one_word, parts
from chronik.search.words import near_places, places

Span = tuple[int, int]
Marker = Callable[[str], list[Span]]

MAX_MARKS = 1000
"""In one text."""


def marker_of(query: Query, field: Field, now_ms: int) -> Marker | None:
    """The function that says where the clause is in a text; None for one that marks nothing."""
    analysed = field.kind in ("dynamic", "text")
    match query:
        case Term() if analysed:
            return _words_marker([words(query.text)], query.slop, query.prefix)
        case AnyTerm() if analysed:
            return _words_marker([words(text) for text in query.texts], 0, False)
        case Term():
            return _whole(of_term(query, field, now_ms).in_text)
        case AnyTerm():
            exact = frozenset(query.texts)
            return _whole(lambda text: text in exact)
        case Wildcard():
            return _wildcard_marker(query, field)
        case Regexp():
            return _regexp_marker(query, field)
        case _:
            return None


def _whole(fits: Callable[[str], bool]) -> Marker:
    return lambda text: [(0, len(text))] if text and fits(text) else []


def _words_marker(sequences: list[list[str]], slop: int, prefix: bool) -> Marker:
    single = frozenset(found[0] for found in sequences if len(found) == 1) if not prefix else frozenset()
    several = [found for found in sequences if len(found) > 1 or (prefix and found)]

    def mark(text: str) -> list[Span]:
        spans = word_spans(text)
        found = [word for _, _, word in spans]
        marked = {index for index, word in enumerate(found) if word in single}
        for wanted in several:
            if slop and len(wanted) > 1:
                ways: Iterator[Iterable[int]] = near_places(found, wanted, slop, prefix)
            else:
                ways = (range(index, index + len(wanted)) for index in places(found, wanted, prefix))
            for taken in ways:
                marked.update(taken)
                if len(marked) > MAX_MARKS:
                    break
        return [spans[index][:2] for index in sorted(marked)[:MAX_MARKS]]

    return mark


def _wildcard_marker(query: Wildcard, field: Field) -> Marker:
    pattern = parts(query.pattern)
    if field.kind not in ("dynamic", "text") or not is_of_one_word(pattern):
        return _whole(of_wildcard(query, field).in_text)
    fits = compiled(folded(pattern)).fullmatch
    return lambda text: [(start, end) for start, end, word in word_spans(text) if fits(word)][:MAX_MARKS]


def _regexp_marker(query: Regexp, field: Field) -> Marker:
    regexp = compile_regexp(query.pattern, field.name)

    def mark(text: str) -> list[Span]:
        data = text.encode()
        found: list[Span] = []
        for match in regexp.finditer(data):
            if match.end() > match.start():
                found.append((match.start(), match.end()))
                if len(found) == MAX_MARKS:
                    break
        return found if text.isascii() else [_characters(data, span) for span in found]

    return mark


def _characters(data: bytes, span: Span) -> Span:
    start = len(data[: span[0]].decode("utf-8", "ignore"))
    return start, start + len(data[span[0] : span[1]].decode("utf-8", "ignore"))
