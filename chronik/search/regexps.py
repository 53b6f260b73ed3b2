r"""Regular expressions over raw fields: RE2's, which take time linear in the text whatever the pattern is.

`.` is any character, also the end of a line; `^` and `$` are the field's beginning and end, `\b`, `\d`, `\w`, `\s` are ASCII's,
`(?i)` is by Unicode's simple folding. A byte that is not UTF-8 counts as U+FFFD, as it does everywhere.
"""

from __future__ import annotations

import re2

from chronik.search.query import QueryError

MAX_PROGRAM_BYTES = 4 << 20
"""What a compiled pattern may take: `(a{1000}){1000}` takes more, and is refused."""


def compile_regexp(pattern: str, field: str = "") -> re2._Regexp:
    """The compiled pattern, to search bytes with. Raises QueryError."""
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.dot_nl = True
    options.max_mem = MAX_PROGRAM_BYTES
    try:
        return re2.compile(pattern.encode(), options)
    except re2.error as problem:
        reason = problem.args[0] if problem.args else problem
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise QueryError(
            f"{field + ': ' if field else ''}/{pattern:.100}/ is no regular expression of RE2: {text}"
        ) from None
