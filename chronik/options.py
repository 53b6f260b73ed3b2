"""How an option is declared and how its value is found: default < file < environment < flag.

`Section` methods make dataclass fields that carry an `Option`: what it is called, what it may hold, what it means. A
value arrives as text from wherever it was written; `gather` reads the three sources into (text, where it stands)
pairs, and the option's `parse` turns the text into the value or says what would have been allowed.

Names are normalised once, so `log.retention.ms`, `log_retention_ms` and the nested `log: {retention: {ms: ...}}` are the
same option. The environment name is `CHRONIK_` and the name in capitals, beside the few short ones of old.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import yaml

from chronik.errors import ConfigError

ENVIRONMENT_PREFIX = "CHRONIK_"
CONFIG_PATH_VARIABLE = "CHRONIK_CONFIG"
MILLISECONDS, SECONDS, BYTES = "milliseconds", "seconds", "bytes"
INT32_MAX = 2**31 - 1
KIBIBYTE = 1024
MEBIBYTE = 1024 * 1024

# Kubernetes puts such variables into every pod beside a Service named "chronik" or "chronik-..."; chronik-ctl and the tests
# have variables of their own.
_NOT_OPTIONS = re.compile(
    r"CHRONIK_(BOOTSTRAP_SERVERS|(CTL|TEST)_\w+|(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?))"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Option:
    """One declared option. `parse` raises ValueError; `allowed` says in words what it accepts.

    `flag` is its own command-line flag, if it has one; `--set name=value` sets the others.
    """

    parse: Callable[[str], Any]
    allowed: str
    doc: str
    section: str
    unit: str | None = None
    kafka: str | None = None
    environment: str | None = None
    flag: str | None = None
    name: str = ""
    default: Any = None

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that set it; the general one first."""
        general = ENVIRONMENT_PREFIX + self.name.upper()
        return (general, self.environment) if self.environment else (general,)


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """A value as somebody wrote it, and where."""

    text: str
    source: str


class Section:
    """Options that belong together, under a heading of the example file. Its methods declare dataclass fields."""

    def __init__(self, heading: str) -> None:
        self.heading = heading

    def integer(self, default: int, doc: str, low: int = 0, high: int = 2**63 - 1, **more: Any) -> Any:
        """A whole number from `low` to `high`."""
        allowed = f"a whole number from {low} to {high}" if high < 2**31 - 1 else f"a whole number, at least {low}"

        def parse(text: str) -> int:
            digits = text.replace("_", "")
            if not re.fullmatch(r"[+-]?[0-9]{1,19}", digits) or not low <= int(digits) <= high:
                raise ValueError(f"{text!r} is not {allowed}")
            return int(digits)

        return self.custom(default, doc, parse, allowed, **more)

    def boolean(self, default: bool, doc: str, **more: Any) -> Any:
        """true or false."""

        def parse(text: str) -> bool:
            if text.lower() not in ("true", "false"):
                raise ValueError(f"{text!r} is neither true nor false")
            return text.lower() == "true"

        return self.custom(default, doc, parse, "true or false", **more)

    def choice(self, default: str, doc: str, choices: tuple[str, ...], **more: Any) -> Any:
        """One of a few words."""
        allowed = choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"

        def parse(text: str) -> str:
            if text not in choices:
                raise ValueError(f"{text!r} is not {allowed}{did_you_mean(text, choices)}")
            return text

        return self.custom(default, doc, parse, allowed, **more)

    def custom(self, default: Any, doc: str, parse: Callable[[str], Any], allowed: str, **more: Any) -> Any:
        """Anything else. `more` are further fields of `Option`: unit, kafka, environment, flag."""
        option = Option(parse=parse, allowed=allowed, doc=doc, section=self.heading, default=default, **more)
        return dataclasses.field(default=default, metadata={"option": option})


def declared_options(cls: type) -> dict[str, Option]:
    """The options declared as fields of `cls`, by name, in their order."""
    return {
        field.name: dataclasses.replace(field.metadata["option"], name=field.name)
        for field in dataclasses.fields(cls)
        if "option" in field.metadata
    }


def gather(
    options: Mapping[str, Option], path: str | None, environment: Mapping[str, str], flags: Mapping[str, str]
) -> dict[str, Setting]:
    """What was set, by option name: the file at `path` under the environment under the flags. Raises ConfigError."""
    settings: dict[str, Setting] = {}
    if path is not None:
        settings.update(_read_file(options, path))
    settings.update(_read_environment(options, environment))
    for key, text in flags.items():
        name = canonical(key)
        if name not in options:
            raise ConfigError(f"flag --set {key}: no such option{did_you_mean(name, options)}")
        settings[name] = Setting(text, f"flag --{options[name].flag or 'set'}")
    return settings


def canonical(key: str) -> str:
    """The one name of what people write as `log.retention.ms`, `log-retention-ms` or `log_retention_ms`.

    Kafka's namespace for this project's own configs goes: `chronik.durability` is `durability`.
    """
    return key.strip().replace(".", "_").replace("-", "_").lower().removeprefix("chronik_")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ "; did you mean ...?" when one of `known` looks like `word`, else nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _read_environment(options: Mapping[str, Option], environment: Mapping[str, str]) -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    expected = {CONFIG_PATH_VARIABLE}
    for name, option in options.items():
        expected.update(option.variables)
        # An empty variable is an unset one: container files pass them along so.
        given = [(variable, environment[variable]) for variable in option.variables if environment.get(variable)]
        if len({text for _, text in given}) > 1:
            both = " and ".join(variable for variable, _ in given)
            raise ConfigError(f"environment variables {both} set the same option differently; keep one of them")
        if given:
            found[name] = Setting(given[0][1], f"environment variable {given[0][0]}")
    for variable in environment:
        if (
            variable.startswith(ENVIRONMENT_PREFIX)
            and variable not in expected
            and not _NOT_OPTIONS.fullmatch(variable)
        ):
            raise ConfigError(f"environment variable {variable}: no such option{did_you_mean(variable, expected)}")
    return found


def _read_file(options: Mapping[str, Option], path: str) -> dict[str, Setting]:
    try:
        with open(path, encoding="utf-8") as file:
            root = yaml.compose(file, Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(f"configuration file {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or error
        raise ConfigError(f"{path}{line}: not valid YAML: {problem}") from error
    found: dict[str, Setting] = {}
    if root is None:
        return found
    for key, text, line_number in _flatten(root, path, ""):
        where = f"{path} line {line_number}"
        name = canonical(key)
        if name not in options:
            raise ConfigError(f"{where}: {key}: no such option{did_you_mean(name, options)}")
        if name in found:
            raise ConfigError(f"{where}: {key} is already set at {found[name].source}; keep one of them")
        found[name] = Setting(text, where)
    return found


def _flatten(node: yaml.Node, path: str, prefix: str) -> Iterable[tuple[str, str, int]]:
    """(dotted key, text, line) of every leaf. Nesting deeper than any option's name cannot occur: the key is refused."""
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1
        raise ConfigError(f"{path} line {line}: options are written as 'name: value', one a line")
    for key_node, value in node.value:
        key = f"{prefix}{key_node.value}" if isinstance(key_node, yaml.ScalarNode) else ""
        line = key_node.start_mark.line + 1
        if not key or len(key) > 120:
            raise ConfigError(f"{path} line {line}: the name of an option must be plain text")
        if isinstance(value, yaml.MappingNode):
            yield from _flatten(value, path, key + ".")
        elif isinstance(value, yaml.SequenceNode):
            if not all(isinstance(item, yaml.ScalarNode) for item in value.value):
                raise ConfigError(f"{path} line {line}: {key}: a list may hold plain values only")
            yield key, ",".join(item.value for item in value.value), line
        elif value.tag == "tag:yaml.org,2002:null":
            raise ConfigError(f"{path} line {line}: {key} has no value; give it one or remove the line")
        else:
            yield key, value.value, line
