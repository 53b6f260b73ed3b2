"""Regular expressions of clients: RE2's, as Kafka's are.

They match in time linear in the name, so a hostile pattern costs no more than a plain one, and their size is bounded.
"""

from __future__ import annotations

import re2

from chronik.errors import ErrorCode, KafkaError

MAX_PATTERN = 4096
"""Characters that a pattern may have."""

_MAX_PROGRAM_BYTES = 1 << 20


def _options() -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = _MAX_PROGRAM_BYTES
    return options


_OPTIONS = _options()


def compile_pattern(pattern: str, what: str) -> re2._Regexp:
    """The compiled pattern. Raises KafkaError(INVALID_REGULAR_EXPRESSION), with `what` for what the pattern is."""
    if len(pattern) > MAX_PATTERN:
        raise KafkaError(
            ErrorCode.INVALID_REGULAR_EXPRESSION,
            f"{what} has {len(pattern)} characters; at most {MAX_PATTERN} are allowed",
        )
    try:
        return re2.compile(pattern, _OPTIONS)
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0] if error.args else error
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise KafkaError(
            ErrorCode.INVALID_REGULAR_EXPRESSION, f"{what} `{pattern:.200}` is not a valid regular expression: {text}."
        ) from error
