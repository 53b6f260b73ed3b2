"""An inverted index on disk, by tantivy: made once, and asked. The only module that knows tantivy.

Fields: `v` and `o` are texts of words with spaces between (`chronik.search.splits.texts`), of which `v` has frequencies and
positions; `offset` and `time` are columns. A record without a time has no value in its column.

tantivy is Rust. Where it is at fault, or a file isn't what it was, it raises ValueError, OSError, or a panic, which is no
Exception: all of them are `SplitError` here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import tantivy
from numpy.typing import NDArray
from tantivy import FieldType, Occur, Query

from chronik.errors import ChronikError
from chronik.search.splits.proposals import (
    EVERYTHING,
    NOTHING,
    Anywhere,
    Every,
    Offsets,
    Some,
    Times,
    Tree,
    Without,
    Words,
    simplified,
)
from chronik.search.splits.ranking import Ranking, Weighed, boosts, enough

HEAP_BYTES = 128 << 20
"""What tantivy may gather before it writes a part of the index."""
LOCKS = (".tantivy-meta.lock", ".tantivy-writer.lock")
"""Files that a finished index has no need of."""
NO_TIME = -1

_TOKENIZER = "spaces"
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1
_Result = TypeVar("_Result")


class SplitError(ChronikError):
    """The index cannot be made, or read."""


def _guarded(work: Callable[[], _Result]) -> _Result:
    try:
        return work()
    except BaseException as error:
        _translate(error)
        raise


def _translate(error: BaseException) -> None:
    """Raise SplitError in place of what came out of tantivy; not of anything else."""
    if isinstance(error, ValueError | OSError):
        raise SplitError(str(error)) from error
    if type(error).__name__ == "PanicException":
        raise SplitError(f"tantivy has given up: {error}") from error


def _schema() -> Any:
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("v", tokenizer_name=_TOKENIZER, index_option="position")
    builder.add_text_field("o", tokenizer_name=_TOKENIZER, index_option="basic")
    builder.add_unsigned_field("offset", fast=True)
    builder.add_integer_field("time", fast=True)
    return builder.build()


def _register(index: Any) -> None:
    index.register_tokenizer(_TOKENIZER, tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build())


class InvertedWriter:
    """Makes an index in the directory at `path`, which is there and empty. Raises SplitError."""

    def __init__(self, path: str, heap_bytes: int = HEAP_BYTES) -> None:
        self._index = _guarded(lambda: tantivy.Index(_schema(), path, reuse=False))
        _register(self._index)
        self._writer: Any = _guarded(lambda: self._index.writer(heap_bytes, 1))
        self._add = self._writer.add_document
        self._make = tantivy.Document

    def add(self, offset: int, timestamp: int, value: str, other: str) -> None:
        """Another record. It may take seconds, while tantivy writes what it has gathered."""
        document = self._make()
        document.add_text("v", value)
        if other:
            document.add_text("o", other)
        document.add_unsigned("offset", offset)
        if timestamp != NO_TIME:
            document.add_integer("time", timestamp)
        try:
            self._add(document)
        except BaseException as error:
            _translate(error)
            raise

    def finish(self) -> None:
        """Write all that was added. Takes seconds."""
        _guarded(self._writer.commit)
        _guarded(self._writer.wait_merging_threads)


class InvertedIndex:
    """The finished index at `path`. Raises SplitError. Its files are mapped into memory, and need no descriptors."""

    def __init__(self, path: str) -> None:
        index = _guarded(lambda: tantivy.Index.open(path))
        _register(index)
        self._schema = _schema()
        self._searcher: Any = _guarded(index.searcher)

    @property
    def records(self) -> int:
        """How many records it has."""
        return int(self._searcher.num_docs)

    def count(self, tree: Tree) -> int:
        """How many records fit."""
        tree = simplified(tree)
        if tree in (EVERYTHING, NOTHING):
            return self.records if tree == EVERYTHING else 0
        query = self._query(tree)
        return int(_guarded(lambda: self._searcher.search(query, limit=1, order_by_field="offset").count))

    def offsets(self, tree: Tree, most: int) -> NDArray[np.int64]:
        """The offsets of records that fit, rising; the last `most` of them."""
        tree = simplified(tree)
        if tree == NOTHING:
            return np.zeros(0, np.int64)
        query = self._query(tree)
        found = _guarded(lambda: self._searcher.search(query, limit=max(most, 1), count=False, order_by_field="offset"))
        hits = [offset for offset, _ in found.hits]
        return np.array(hits[::-1], np.int64)

    def frequency(self, word: str) -> int:
        """How many records have the word in their value."""
        return int(_guarded(lambda: self._searcher.doc_freq("v", word)))

    def best(self, tree: Tree, ranked: Ranking, most: int) -> tuple[NDArray[np.int64], float | None]:
        """Of the records that fit those that tantivy scores best: their offsets, rising; and the score of the next one, if any.

        They are as many as are needed for the best few (`chronik.search.splits.ranking.enough`), `most` at most.
        """
        counts = [[self.frequency(word) for word in part.words] for part in ranked.parts]
        factors = boosts(ranked, self.records, counts)

        def work() -> tuple[list[int], float | None]:
            asked = [(Occur.Must, Query.const_score_query(self._translated(simplified(tree)), 0.0))]
            asked += [
                (Occur.Should, self._weighed(part, factor)) for part, factor in zip(ranked.parts, factors, strict=True)
            ]
            hits = self._searcher.search(Query.boolean_query(asked), limit=most + 1, count=False).hits
            taken = enough([score for score, _ in hits[:most]], ranked.size)
            found = self._searcher.fast_field_values("offset", [place for _, place in hits[:taken]])
            return sorted(found), hits[taken][0] if taken < len(hits) else None

        offsets, following = _guarded(work)
        return np.array(offsets, np.int64), following

    def _weighed(self, part: Weighed, factor: float) -> Any:
        if not part.words:
            return Query.const_score_query(self._translated(simplified(part.tree)), factor)
        if len(part.words) == 1:
            term = Query.term_query(self._schema, "v", part.words[0], index_option="freq")
        else:
            term = Query.phrase_query(self._schema, "v", list(part.words))
        return Query.boost_query(term, factor)

    def _query(self, tree: Tree) -> Any:
        return _guarded(lambda: self._translated(tree))

    def _translated(self, tree: Tree) -> Any:
        match tree:
            case Words():
                if len(tree.words) == 1:
                    return self._term("v", tree.words[0])
                return Query.phrase_query(self._schema, "v", list(tree.words))
            case Anywhere():
                either = [(Occur.Should, self._term(field, tree.word)) for field in ("v", "o")]
                return Query.boolean_query(either)
            case Times():
                return self._between("time", FieldType.Integer, tree.first, tree.last)
            case Offsets():
                return self._between("offset", FieldType.Unsigned, max(tree.first, 0), tree.last)
            case Without():
                every = (Occur.Must, Query.all_query())
                return Query.boolean_query([every, (Occur.MustNot, self._translated(tree.part))])
            case Every():  # without parts it is everything
                if not tree.parts:
                    return Query.all_query()
                return Query.boolean_query([(Occur.Must, self._translated(part)) for part in tree.parts])
            case Some():
                return Query.boolean_query([(Occur.Should, self._translated(part)) for part in tree.parts])

    def _term(self, field: str, word: str) -> Any:
        return Query.term_query(self._schema, field, word, index_option="basic")

    def _between(self, field: str, kind: Any, first: int, last: int) -> Any:
        return Query.range_query(self._schema, field, kind, max(first, _LEAST), min(last, _MOST))
