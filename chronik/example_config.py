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
    sections: dict[str, list[str]] = {}
    for name, option in OPTIONS.items():
        sections.setdefault(option.section, []).append(_entry(name, option))
    parts = [_HEAD]
    for heading, entries in sections.items():
        parts += [f"\n# ---- {heading} ----\n", *entries]
    return "\n".join(parts)


def _entry(name: str, option: Option) -> str:
    lines = textwrap.wrap(option.doc, 110)
    unit = f", in {option.unit}" if option.unit else ""
    names = f" Kafka's name: {option.kafka}." if option.kafka else ""
    lines.append(f"Allowed: {option.allowed}{unit}.{names}")
    lines.append(f"Environment: {' or '.join(option.variables)}.")
    text = "" if option.default is None else format_value(option.default)
    return "".join(f"# {line}\n" for line in lines) + f"#{name}: {text}".rstrip() + "\n"


if __name__ == "__main__":
    print(example_config(), end="")
