"""Options: where a value comes from, what is refused and how the refusal reads; the example file; no unread option."""

from __future__ import annotations

import os
import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.addresses import ListenerAddress
from chronik.broker_config import BROKER_CONFIGS
from chronik.config import OPTIONS, TOPIC_DEFAULTS, Config, format_value
from chronik.errors import ConfigError
from chronik.example_config import example_config


class Resolution(SynchronousTestCase):
    def file(self, text: str) -> str:
        path = self.mktemp() + ".yaml"
        Path(path).write_text(text)
        return path

    def refusal(self, **sources: object) -> str:
        return str(self.assertRaises(ConfigError, Config.resolve, **sources))

    def test_defaults_are_typed_and_bind_loopback(self) -> None:
        config = Config.resolve()
        self.assertEqual(config.listeners, (ListenerAddress("PLAINTEXT", "127.0.0.1", 9092),))
        self.assertEqual(config.admin_listener, ListenerAddress("HTTP", "127.0.0.1", 8080))
        self.assertTrue(all(listener.loopback for listener in config.listeners))
        self.assertEqual(config.data_directory, os.path.abspath("chronik-data"))
        self.assertEqual((config.role, config.num_partitions, config.source("num_partitions")), ("all", 1, "default"))

    def test_flag_over_environment_over_file_over_default(self) -> None:
        path = self.file("# ours\nnum.partitions: 2\nfetch_max_bytes: 2_000\nnode_id: 7\n")
        environment = {"CHRONIK_NUM_PARTITIONS": "3", "CHRONIK_FETCH_MAX_BYTES": "3000", "CHRONIK_CONFIG": path}
        config = Config.resolve({"num-partitions": "4"}, environment)
        self.assertEqual((config.num_partitions, config.fetch_max_bytes, config.node_id), (4, 3000, 7))
        self.assertEqual(config.source("num_partitions"), "flag --set")
        self.assertEqual(config.source("fetch_max_bytes"), "environment variable CHRONIK_FETCH_MAX_BYTES")
        self.assertEqual(config.source("node_id"), f"{path} line 4")
        self.assertEqual(config.source("log_retention_ms"), "default")
        self.assertEqual(config.topic_defaults, {})

    def test_spellings_of_a_key_are_one_option(self) -> None:
        for text in (
            "log.retention.ms: 9",
            "log_retention_ms: 9",
            "log: {retention: {ms: 9}}",
            "log:\n  retention.ms: 9",
        ):
            self.assertEqual(Config.resolve(path=self.file(text)).topic_defaults, {"log.retention.ms": "9"}, text)

    def test_the_short_environment_names(self) -> None:
        environment = {
            "METADATA_PATH": "/tmp/somewhere",
            "KAFKA_LISTENERS": "tcp:9094",
            "CHRONIK_ROLE": "all",
            "OBJECT_STORE_TYPE": "local",
        }
        config = Config.resolve(environment=environment)
        self.assertEqual(config.data_directory, "/tmp/somewhere")
        self.assertEqual(config.listeners, (ListenerAddress("PLAINTEXT", "", 9094),))
        self.assertEqual(config.source("data_directory"), "environment variable METADATA_PATH")

    def test_empty_variables_and_service_links_are_no_settings(self) -> None:
        environment = {
            "CHRONIK_NODE_ID": "",
            "CHRONIK_SERVICE_HOST": "10.0.0.1",
            "CHRONIK_KAFKA_SERVICE_PORT_TCP": "9092",
            "CHRONIK_PORT_9092_TCP_ADDR": "10.0.0.1",
            "CHRONIK_PORT": "tcp://10.0.0.1:9092",
            "CHRONIK_BOOTSTRAP_SERVERS": "127.0.0.1:9092",
            "CHRONIK_TEST_SLOW": "1",
            "HOME": "/",
        }
        self.assertEqual(Config.resolve(environment=environment).sources, {})

    def test_a_yaml_list_of_listeners(self) -> None:
        path = self.file(
            "listeners:\n  - IN://127.0.0.1:1\n  - OUT://[::1]:2\nadvertised.listeners: OUT://example.org:3\n"
        )
        config = Config.resolve(path=path)
        self.assertEqual([listener.name for listener in config.listeners], ["IN", "OUT"])
        self.assertEqual(config.listeners[1].endpoint, "tcp:2:interface=\\:\\:1")
        self.assertEqual(str(config.listeners[1]), "OUT://[::1]:2")

    def test_unknown_names_are_refused_with_a_suggestion(self) -> None:
        path = self.file("node_id: 1\nnum.partitons: 3\n")
        self.assertEqual(
            self.refusal(path=path), f"{path} line 2: num.partitons: no such option; did you mean num_partitions?"
        )
        self.assertEqual(
            self.refusal(environment={"CHRONIK_NODEID": "3"}),
            "environment variable CHRONIK_NODEID: no such option; did you mean CHRONIK_NODE_ID?",
        )
        self.assertIn("did you mean node_id?", self.refusal(flags={"node-idd": "3"}))

    def test_wrong_values_name_their_place_and_what_is_allowed(self) -> None:
        path = self.file("\nnum_partitions: many\n")
        self.assertEqual(
            self.refusal(path=path),
            f"{path} line 2: num_partitions: 'many' is not a whole number from 1 to 10000",
        )
        for environment, expected in [
            ({"CHRONIK_NUM_PARTITIONS": "0"}, "'0' is not a whole number from 1 to 10000"),
            ({"CHRONIK_NUM_PARTITIONS": "1.5"}, "'1.5' is not a whole number"),
            ({"CHRONIK_AUTO_CREATE_TOPICS_ENABLE": "yes"}, "'yes' is neither true nor false"),
            (
                {"CHRONIK_DURABILITY": "fsnc"},
                "durability: config chronik.durability cannot be 'fsnc': it is one of interval, fsync",
            ),
            ({"CHRONIK_DEFAULT_REPLICATION_FACTOR": "3"}, "'3' is not a whole number from 1 to 1"),
            (
                {"OBJECT_STORE_TYPE": "s3"},
                "environment variable OBJECT_STORE_TYPE: object_store_type: 's3' is not built",
            ),
            ({"KAFKA_LISTENERS": "SSL://:9093"}, "SSL listeners are not built yet"),
            ({"KAFKA_LISTENERS": "unix:/tmp/x"}, "only tcp endpoints are built"),
            ({"KAFKA_LISTENERS": "tcp:99999"}, "'99999' is no port"),
            ({"KAFKA_LISTENERS": "tcp:9092:backlog=5"}, "'backlog=5' is not understood"),
            ({"KAFKA_LISTENERS": ","}, "at least one listener is needed"),
            ({"KAFKA_LISTENERS": "A://:1,A://:2"}, "the listener name A is used twice"),
            ({"KAFKA_LISTENERS": "A://:1,B://:1"}, "two listeners bind every interface port 1"),
            ({"CHRONIK_ADVERTISED_LISTENERS": "PLAINTEXT://0.0.0.0:1"}, "name the host that they reach"),
            ({"CHRONIK_ADVERTISED_LISTENERS": "X://a:1"}, "there is no listener named X; the listeners are PLAINTEXT"),
            ({"METADATA_PATH": "/a", "CHRONIK_DATA_DIRECTORY": "/b"}, "set the same option differently"),
            (
                {"CHRONIK_GROUP_MIN_SESSION_TIMEOUT_MS": "9", "CHRONIK_GROUP_MAX_SESSION_TIMEOUT_MS": "8"},
                "is above group_max_session_timeout_ms (8, environment variable",
            ),
        ]:
            self.assertIn(expected, self.refusal(environment=environment), environment)

    def test_roles_not_built_are_refused_saying_so(self) -> None:
        for role in ("controller", "ingest", "query", "controller,ingest"):
            self.assertIn(f"role {role!r} is not built yet", self.refusal(flags={"role": role}))
        self.assertIn("role 'ingets' is unknown", self.refusal(flags={"role": "ingets"}))
        self.assertIn("did you mean ingest?", self.refusal(flags={"role": "ingets"}))

    def test_broken_files(self) -> None:
        for text, expected in [
            ("a: [1,\n", "not valid YAML"),
            ("- a\n", "options are written as 'name: value'"),
            ("node_id:\n", "node_id has no value"),
            ("node_id: 1\nnode.id: 2\n", "line 2: node.id is already set at"),
            ("listeners: [[1]]\n", "a list may hold plain values only"),
            ("? [a]\n: b\n", "the name of an option must be plain text"),
        ]:
            self.assertIn(expected, self.refusal(path=self.file(text)))
        self.assertIn("cannot be read: No such file", self.refusal(path="/nonexistent.yaml"))
        self.assertEqual(Config.resolve(path=self.file("# nothing\n")).sources, {})

    @given(name=st.sampled_from(sorted(OPTIONS)), text=st.text(max_size=40))
    def test_any_text_is_a_value_or_a_config_error(self, name: str, text: str) -> None:
        try:
            config = Config.resolve({name: text})
        except ConfigError as error:
            self.assertIn(name.split("_")[0], str(error))
        else:
            value = config.topic_defaults[str(OPTIONS[name].kafka)] if name in TOPIC_DEFAULTS else getattr(config, name)
            if value != "":
                self.assertEqual(OPTIONS[name].parse(format_value(value)), value)


class Declarations(SynchronousTestCase):
    root = Path(__file__).parent.parent

    def test_every_default_passes_its_own_check(self) -> None:
        for name, option in OPTIONS.items():
            if name != "data_directory" and option.default is not None:
                self.assertEqual(option.parse(format_value(option.default)), option.default, name)

    def test_kafka_names_are_the_names_with_dots(self) -> None:
        for name, option in OPTIONS.items():
            if option.kafka:
                self.assertEqual(option.kafka.removeprefix("chronik.").replace(".", "_"), name)

    def test_topic_defaults_are_text_by_the_broker_config_name(self) -> None:
        config = Config.resolve({"log.retention.ms": "5", "chronik.durability": "fsync", "num_partitions": "3"})
        self.assertEqual(config.topic_defaults, {"log.retention.ms": "5", "chronik.durability": "fsync"})
        static = config.kafka_configs()
        self.assertEqual((static["log.retention.ms"], static["num.partitions"], static["node.id"]), ("5", "3", "1"))
        self.assertNotIn("fetch.max.bytes", static)
        self.assertLessEqual(set(static), set(BROKER_CONFIGS))

    def test_the_example_file_is_the_declarations(self) -> None:
        written = (self.root / "etc" / "chronik.yaml").read_text()
        self.assertEqual(
            written, example_config(), "write it anew: python -m chronik.example_config > etc/chronik.yaml"
        )

    def test_the_example_file_uncommented_is_the_default(self) -> None:
        lines = [line[1:] if re.match("#[a-z]", line) else line for line in example_config().split("\n")]
        path = self.mktemp() + ".yaml"
        Path(path).write_text("\n".join(line for line in lines if not line.endswith(":")))
        config, default = Config.resolve(path=path), Config.resolve()
        for name in set(OPTIONS) - set(TOPIC_DEFAULTS):
            self.assertEqual(getattr(config, name), getattr(default, name), name)
        unset = {name for name, option in OPTIONS.items() if option.default in (None, ())}
        self.assertEqual(set(config.sources), set(OPTIONS) - unset)
        for name, text in config.topic_defaults.items():
            self.assertEqual(text, BROKER_CONFIGS[name].text(BROKER_CONFIGS[name].default))
