"""The example file `etc/chronik.yaml`, written from the declarations: `python -m chronik.example_config > etc/chronik.yaml`.

Every option stands in it once, commented out at its default, under its section, with what it means and may hold. A test
compares the file with this text, so that it cannot drift.
"""

from __future__ import annotations

import textwrap

from chronik.config import OPTIONS, format_value
from chronik.options import Option

_HEAD = """\
# Every option of a Chronik Stream node, at its default. Use it with `twistd -n chronik --config etc/chronik.yaml`.
#
# A value is taken from here, else the default; an environment variable wins over this file, a command-line flag over both.
# Nested keys work too: `log.retention.ms: 1`, `log_retention_ms: 1` and `log: {retention: {ms: 1}}` are the same.
# An option that is not listed here is refused.
"""


def example_config() -> str:
    """The text of the example file."""
    parts = [_HEAD]
    section = None
    for name, option in OPTIONS.items():
        if option.section != section:
            section = option.section
            parts.append(f"\n# ---- {section} ----\n")
        parts.append(_entry(name, option))
    return "\n".join(parts)


def _entry(name: str, option: Option) -> str:
    lines = textwrap.wrap(option.doc, 110)
    allowed = option.allowed + (f", in {option.unit}" if option.unit else "")
    lines.append(f"Allowed: {allowed}.")
    if option.kafka:
        lines.append(f"Kafka's name: {option.kafka}." + _topic_note(option))
    elif option.topic:
        lines.append(_topic_note(option).strip())
    lines.append(f"Environment: {' or '.join(option.variables)}.")
    text = format_value(option.default)
    return "".join(f"# {line}\n" for line in lines) + f"#{name}: {text}".rstrip() + "\n"


def _topic_note(option: Option) -> str:
    return f" A topic overrides it with {option.topic}." if option.topic else ""


if __name__ == "__main__":
    print(example_config(), end="")
