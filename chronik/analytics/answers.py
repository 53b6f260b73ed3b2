"""Rows as bytes: JSON, CSV, or an Arrow stream, in pieces, as they come from DuckDB.

JSON has the rows as arrays: numbers as numbers however large, times as ISO 8601, bytes as base64, structs as objects, what
JSON has no number for (NaN, infinities) as null. In CSV a struct or list is its JSON, NULL is nothing, and an empty text is
quoted.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from chronik.analytics.messages import Form, SqlFault

PIECE_BYTES = 256 << 10
MAX_BYTES = 64 << 20
"""Of one answer."""

_encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=str)
_special = re.compile(r'[",\r\n]').search


class RowWriter:
    """Writes batches of rows in one form; what was written is taken with `taken`."""

    def __init__(self, form: Form, schema: Any, names: Sequence[str]) -> None:
        self._schema = schema
        self._bytes = 0
        self._waiting = bytearray()
        self._first = True
        self._writers = {"json": self._json, "csv": self._csv, "arrow": self._arrow}
        self._write = self._writers[form]
        self._form = form
        if form == "csv":
            self._csv_rows([list(names)])
        elif form == "arrow":
            self._sink = io.BytesIO()
            self._stream = pa.ipc.new_stream(self._sink, schema)
            self._drain()

    def write(self, batch: Any) -> None:
        """Add the rows of a batch. Raises SqlFault where the answer becomes too large, or has what this form can't say."""
        try:
            self._write(batch)
        except (ValueError, OverflowError, TypeError, msgspec.MsgspecError) as problem:
            raise SqlFault(
                "sql_exception", f"a value cannot be written as {self._form}: {problem}; cast it to VARCHAR"
            ) from None
        if self._bytes + len(self._waiting) > MAX_BYTES:
            raise SqlFault(
                "answer_too_large", f"the answer is larger than {MAX_BYTES >> 20} MiB: select less, or LIMIT it"
            )

    def end(self) -> None:
        """There are no more."""
        if self._form == "arrow":
            self._stream.close()
            self._drain()

    def taken(self, all_of_it: bool = False) -> Iterator[bytes]:
        """Pieces that are ready to be sent."""
        while len(self._waiting) >= PIECE_BYTES or (all_of_it and self._waiting):
            piece = bytes(self._waiting[:PIECE_BYTES])
            del self._waiting[: len(piece)]
            self._bytes += len(piece)
            yield piece

    def _json(self, batch: Any) -> None:
        for row in _rows(batch):
            if not self._first:
                self._waiting += b","
            self._first = False
            self._waiting += _encoder.encode(row)

    def _csv(self, batch: Any) -> None:
        self._csv_rows([_cell(value) for value in row] for row in _rows(batch))

    def _csv_rows(self, rows: Iterable[Sequence[Any]]) -> None:
        for row in rows:
            self._waiting += ",".join(_quoted(cell) for cell in row).encode("utf-8", "replace") + b"\r\n"

    def _arrow(self, batch: Any) -> None:
        self._stream.write_batch(batch)
        self._drain()

    def _drain(self) -> None:
        self._waiting += self._sink.getvalue()
        self._sink.seek(0)
        self._sink.truncate()


def _rows(batch: Any) -> Iterator[tuple[Any, ...]]:
    """The rows of a batch, as Python has them."""
    columns = [_python(batch.column(number)) for number in range(batch.num_columns)]
    return zip(*columns, strict=True) if columns else iter([()] * batch.num_rows)


def _python(column: Any) -> list[Any]:
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        column = pc.cast(column, pa.string())  # Python's datetime has no nanoseconds
    return list(column.to_pylist())


def _cell(value: Any) -> str | None:
    """A value as the text of a cell."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        return repr(value)
    text = _encoder.encode(value).decode()
    return str(msgspec.json.decode(text)) if text.startswith('"') else text


def _quoted(cell: str | None) -> str:
    """As RFC 4180 has it: in quotes where need be, and where nothing would be taken for NULL."""
    if cell is None:
        return ""
    return '"' + cell.replace('"', '""') + '"' if not cell or _special(cell) else cell
