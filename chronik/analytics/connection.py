"""A DuckDB that can do nothing but compute: the locked connection, and what its refusals are called.

No files, no network, no extensions, no settings, no variables of this process. Its memory is bounded by DuckDB's own limit, and
by that of the process (`chronik.analytics.process`). A statement ends at the interrupt that `Watch` sends when its time is
over, or else by its process being killed from outside.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from threading import Event, Thread

import duckdb

from chronik.analytics.messages import Limits, SqlFault
from chronik.analytics.syntax import Statement, read_statement

MAX_STATEMENT_BYTES = 100_000
_SETTINGS = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
}
PARSING = Limits(rows=0, seconds=10.0, memory_bytes=128 << 20, threads=1)
"""What reading a statement may take."""


def open_connection(limits: Limits) -> duckdb.DuckDBPyConnection:
    """A connection that is bounded, and whose settings cannot be changed any more."""
    memory = f"{max(1, limits.memory_bytes >> 10)}KiB"
    connection = duckdb.connect(
        ":memory:", config={**_SETTINGS, "memory_limit": memory, "threads": str(limits.threads)}
    )
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET lock_configuration = true")
    return connection


def parse(connection: duckdb.DuckDBPyConnection, statement: str) -> Statement:
    """What a statement says, by DuckDB's parser twice: as a tree, and as statements. Raises SqlFault."""
    if len(statement.encode("utf-8", "replace")) > MAX_STATEMENT_BYTES:
        raise SqlFault("parsing_exception", f"a statement has at most {MAX_STATEMENT_BYTES} bytes")
    try:
        ((text,),) = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [statement]).fetchall()
        read = read_statement(json.loads(text))
        statements = connection.extract_statements(statement)
    except (duckdb.Error, RecursionError, UnicodeError) as problem:
        raise fault_of(problem) from None
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise SqlFault("unsupported_statement", "one SELECT is served, besides DESCRIBE topic and SHOW TOPICS")
    return read


def parse_alone(statement: str) -> Statement:
    """As `parse`, with a connection of its own."""
    connection = open_connection(PARSING)
    try:
        return parse(connection, statement)
    finally:
        connection.close()


def fault_of(problem: BaseException) -> SqlFault:
    """What went wrong in DuckDB, as it is answered."""
    reason = str(problem).split("\n\nPossible solutions", 1)[0].strip()
    if isinstance(problem, SqlFault):
        return problem
    if isinstance(problem, (duckdb.OutOfMemoryException, MemoryError)):
        return SqlFault(
            "memory_limit", "the statement needs more memory than it may have: narrow it, or raise sql_memory_bytes"
        )
    if isinstance(problem, RecursionError):
        return SqlFault("parsing_exception", "the statement is nested too deeply")
    if isinstance(problem, duckdb.InterruptException):
        return SqlFault("timeout", "the statement took longer than it may", 408)
    if isinstance(problem, (duckdb.ParserException, duckdb.SyntaxException, UnicodeError)):
        return SqlFault("parsing_exception", reason)
    if isinstance(problem, (duckdb.BinderException, duckdb.CatalogException)):
        return SqlFault("binding_exception", reason)
    if isinstance(problem, duckdb.PermissionException):
        return SqlFault("unsupported_statement", reason)
    if isinstance(problem, (duckdb.InternalException, duckdb.FatalException)):
        return SqlFault("internal_error", reason, 500)
    return SqlFault("sql_exception", reason)


class Watch:
    """Calls `tick` every so often, and interrupts the connection when its time is over; a context manager.

    It has a thread of its own, since the one that runs a statement waits for DuckDB.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, ends: float, clock: Callable[[], float], tick: Callable[[], object]
    ) -> None:
        self._connection = connection
        self._ends = ends
        self._clock = clock
        self._tick = tick
        self._over = Event()
        self._thread = Thread(target=self._run, name="chronik-sql-watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.2):
            self._tick()
            if self._clock() > self._ends:
                self._connection.interrupt()
