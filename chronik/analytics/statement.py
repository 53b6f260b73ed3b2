"""The outer shape of a continuous query: what stands around its SELECT.

    CREATE CONTINUOUS QUERY name AS SELECT ... [EMIT CHANGES | EMIT FINAL] [GRACE INTERVAL '10 seconds'] INTO topic

The SELECT is left as text (`chronik.analytics.plan` reads it). Pure.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import sqlglot
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

MAX_CHARACTERS = 20_000
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,199}")
_UNITS = {"millisecond": 1, "ms": 1, "second": 1000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000}
_INTERVAL = re.compile(r"\s*(\d{1,15})\s*([a-z]+?)s?\s*", re.IGNORECASE)
_DIALECT = "duckdb"


class StatementError(ValueError):
    """A statement that cannot be carried out. The text says what is wrong, and what to write instead."""


class Statement(NamedTuple):
    """A continuous query. `grace` is in ms, None where nothing is said of it."""

    name: str
    select: str
    changes: bool
    grace: int | None
    into: str


def read_statement(text: str) -> Statement:
    """Take a statement apart. Raises StatementError."""
    if len(text) > MAX_CHARACTERS:
        raise StatementError(f"a query has at most {MAX_CHARACTERS} characters, this one {len(text)}")
    text = text.strip().removesuffix(";")
    try:
        tokens = sqlglot.tokenize(text, read=_DIALECT)
    except SqlglotError as error:
        raise StatementError(f"the statement cannot be read: {error}") from None
    words = [token.text.upper() for token in tokens]
    if words[:3] != ["CREATE", "CONTINUOUS", "QUERY"] or len(tokens) < 6 or words[4] != "AS":
        raise StatementError("a continuous query begins with CREATE CONTINUOUS QUERY name AS SELECT")
    if any(token.token_type == TokenType.SEMICOLON for token in tokens):
        raise StatementError("there is more than one statement; a query is one")
    end, changes, grace, into = _clauses(tokens, words)
    select = text[tokens[5].start : tokens[end - 1].end + 1]
    return Statement(_name(tokens[3]), select, changes, grace, into)


def _clauses(tokens: list[Token], words: list[str]) -> tuple[int, bool, int | None, str]:
    """Read the clauses behind the SELECT, from the end; where they begin, and what they say."""
    end, changes, grace, into = len(tokens), None, None, None
    while end > 6:
        if into is None and words[end - 2] == "INTO":
            into, end = _name(tokens[end - 1]), end - 2
        elif changes is None and words[end - 2] == "EMIT" and words[end - 1] in ("CHANGES", "FINAL"):
            changes, end = words[end - 1] == "CHANGES", end - 2
        elif grace is None and (length := _grace_at(words, end)):
            grace, end = interval_ms(" ".join(tokens[at].text for at in range(end - length + 2, end))), end - length
        else:
            break
    if into is None:
        raise StatementError("a continuous query ends with INTO and the topic that its results go to")
    return end, bool(changes), grace, into


def _grace_at(words: list[str], end: int) -> int:
    """How many tokens the GRACE clause has that ends at `end`: INTERVAL '10 seconds' or INTERVAL 10 SECONDS; 0 for none."""
    for length in (3, 4):
        if words[end - length : end - length + 2] == ["GRACE", "INTERVAL"]:
            return length
    return 0


def interval_ms(text: str) -> int:
    """The ms of `10 seconds`. Raises StatementError."""
    found = _INTERVAL.fullmatch(text)
    unit = None if found is None else _UNITS.get(found[2].lower(), _UNITS.get(found[2].lower() + "s"))
    if found is None or unit is None:
        raise StatementError(
            f"{text!r} is no interval; write a number and milliseconds, seconds, minutes, hours or days"
        )
    return int(found[1]) * unit


def _name(token: Token) -> str:
    if not _NAME.fullmatch(token.text):
        raise StatementError(
            f"{token.text[:100]!r} is no name: letters, digits, '_', '-' and '.', beginning with a letter or '_'"
        )
    return token.text
