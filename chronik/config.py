"""The configuration of the node: every option, and how its value is found.

Each is declared once, in `chronik.node_options`, `log_options`, `coordinator_options`, `share_options` or `search_options`: its
default, what it may hold, what it means and who else calls it how. `Config.resolve` reads file, environment and flags over
the defaults and returns the frozen, typed `Config`; a fault is a ConfigError that says where it stands and what is allowed.
Where Kafka has an option of the same meaning it is called `name.with.dots` there and `name_with_dots` here, and both are
accepted. The broker-wide defaults of topic configs are declared in `chronik.broker_config` and become options as they stand
there. What is not listed is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from chronik.broker_config import BROKER_CONFIGS
from chronik.config_def import ConfigDef, ConfigType
from chronik.coordinator_options import CoordinatorOptions
from chronik.errors import ConfigError
from chronik.log_options import TOPICS, LogOptions
from chronik.node_options import NodeOptions, parse_directory
from chronik.options import (
    BYTES,
    CONFIG_PATH_VARIABLE,
    MILLISECONDS,
    Option,
    canonical,
    declared_options,
    gather,
)
from chronik.search_options import SearchOptions
from chronik.share_options import ShareOptions
from chronik.topic_config import TOPIC_CONFIGS


@dataclass(frozen=True, kw_only=True)
class Config(
    SearchOptions, ShareOptions, CoordinatorOptions, LogOptions, NodeOptions
):  # the last base's fields come first
    """The resolved configuration. `sources` says for each option that was set where; the others have their defaults."""

    topic_defaults: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """What was set of the topics' defaults that `chronik.broker_config` declares: text by Kafka's broker config name."""
    sources: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def resolve(
        cls,
        flags: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        path: str | None = None,
    ) -> Config:
        """The configuration out of defaults < the YAML file at `path` < `environment` < `flags`; all values are text.

        Without `path`, the file is the one that CHRONIK_CONFIG names, if any. Raises ConfigError.
        """
        environment = {} if environment is None else environment
        settings = gather(OPTIONS, path or environment.get(CONFIG_PATH_VARIABLE) or None, environment, flags or {})
        values: dict[str, object] = {}
        for name, setting in settings.items():
            try:
                values[name] = OPTIONS[name].parse(setting.text.strip())
            except ValueError as error:
                raise ConfigError(f"{setting.source}: {name}: {error}") from error
        defaults = {str(OPTIONS[name].kafka): str(values.pop(name)) for name in settings if name in TOPIC_DEFAULTS}
        values["topic_defaults"] = MappingProxyType(defaults)
        values.setdefault("data_directory", parse_directory(str(OPTIONS["data_directory"].default)))
        sources = MappingProxyType({name: setting.source for name, setting in settings.items()})
        config = cls(**values, sources=sources)  # type: ignore[arg-type]
        config._check_together()
        return config

    def source(self, name: str) -> str:
        """Where the value of option `name` comes from: a file and line, a variable, a flag, or "default"."""
        return self.sources.get(name, "default")

    def kafka_configs(self) -> dict[str, str]:
        """What this node was started with, as Kafka names it: text by broker config name, only what was set or must be."""
        named = {
            str(option.kafka): format_value(getattr(self, name))
            for name, option in OPTIONS.items()
            if option.kafka in BROKER_CONFIGS and name in self.sources and name not in TOPIC_DEFAULTS
        }
        return {
            **named,
            **self.topic_defaults,
            "node.id": str(self.node_id),
            "broker.id": str(self.node_id),
            "listeners": format_value(self.listeners),
            "log.dirs": self.data_directory,
        }

    def _check_together(self) -> None:
        """What no option can check alone. Raises ConfigError."""
        names = {listener.name for listener in self.listeners}
        for address in self.advertised_listeners:
            if address.name not in names:
                raise ConfigError(
                    f"{self.source('advertised_listeners')}: advertised_listeners: there is no listener named "
                    f"{address.name}; the listeners are {', '.join(sorted(names))}"
                )
        self._check_order("group_min_session_timeout_ms", "group_max_session_timeout_ms")
        for kind, whats in (
            ("consumer", ("session_timeout_ms", "heartbeat_interval_ms")),
            ("share", ("session_timeout_ms", "heartbeat_interval_ms", "record_lock_duration_ms")),
        ):
            for what in whats:
                low, value, high = f"group_{kind}_min_{what}", f"group_{kind}_{what}", f"group_{kind}_max_{what}"
                self._check_order(low, high)
                self._check_order(low, value)
                self._check_order(value, high)
            self._check_order(f"group_{kind}_heartbeat_interval_ms", f"group_{kind}_session_timeout_ms")
        self._check_order("group_share_max_size", "group_share_max_share_sessions")

    def _check_order(self, low: str, high: str) -> None:
        """Whether option `low` is not above option `high`. Raises ConfigError."""
        if getattr(self, low) > getattr(self, high):
            raise ConfigError(
                f"{low} ({getattr(self, low)}, {self.source(low)}) is above {high} "
                f"({getattr(self, high)}, {self.source(high)})"
            )


def format_value(value: object) -> str:
    """`value` as one writes it in a file or variable: the inverse of the option's `parse`."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)


def _topic_default(definition: ConfigDef) -> Option:
    """The option that sets a broker config which is the default of a topic config."""

    def parse(text: str) -> str:
        return definition.text(definition.admit(text)) or ""

    kinds = {ConfigType.BOOLEAN: "true or false", ConfigType.STRING: "text", ConfigType.LIST: "a list"}
    bounds = definition.check(None) if definition.check else None
    allowed = (
        bounds.removeprefix("it is ").removeprefix("it ") if bounds else kinds.get(definition.type, "a whole number")
    )
    unit = next((unit for end, unit in _UNITS.items() if definition.name.endswith(end)), None)
    doc = definition.doc if definition.absence is None else f"{definition.doc} Only its default: {definition.absence}."
    return Option(
        parse, allowed, doc, TOPICS.heading, unit, kafka=definition.name, name=canonical(definition.name),
        default=definition.text(definition.default),
    )  # fmt: skip


_UNITS = {".ms": MILLISECONDS, ".bytes": BYTES, ".hours": "hours", ".minutes": "minutes"}

TOPIC_DEFAULTS: Mapping[str, Option] = MappingProxyType(
    {
        canonical(synonym.name): _topic_default(BROKER_CONFIGS[synonym.name])
        for definition in TOPIC_CONFIGS.values()
        for synonym in definition.synonyms
        if synonym.name in BROKER_CONFIGS
    }
)
"""The options that are broker-wide defaults of topic configs; their declarations are in `chronik.broker_config`."""

OPTIONS: Mapping[str, Option] = MappingProxyType({**declared_options(Config), **TOPIC_DEFAULTS})
"""Every option by name."""
