"""The one table of differences from Apache Kafka that are meant, each with its reason. Anything else that differs is a defect.

An entry that nothing uses any more fails the test too: the table never outlives its reasons.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import Any

ANYTHING = object()


@dataclass(frozen=True, eq=False)
class Difference:
    """An intended difference: where (patterns of scenario, step and path), optionally which values, and why.

    A value may also be given as a function that says whether it is one.
    """

    reason: str
    scenario: str = "*"
    step: str = "*"
    path: str = "*"
    kafka: Any = ANYTHING
    chronik: Any = ANYTHING

    def concerns(self, scenario: str) -> bool:
        """Whether `scenario` is one in which it may appear."""
        return fnmatch.fnmatchcase(scenario, self.scenario)

    def covers(self, scenario: str, step: str, path: str, kafka: Any, chronik: Any) -> bool:
        """Whether it explains one finding."""
        return (
            self.concerns(scenario)
            and fnmatch.fnmatchcase(step, self.step)
            and fnmatch.fnmatchcase(path.translate(_BRACKETS), self.path.translate(_BRACKETS))
            and _is(self.kafka, kafka)
            and _is(self.chronik, chronik)
        )


def _is(expected: Any, value: Any) -> bool:
    return bool(expected is ANYTHING or (expected(value) if callable(expected) else expected == value))


def _piece(value: Any) -> bool:
    """Whether `value`, among the batches of a fetch, is a cut one."""
    return isinstance(value, dict) and set(value) == {"left_over"}


def _taken(reason: str, scenario: str, step: str) -> tuple[Difference, ...]:
    """A produced batch that Kafka refuses, and that is stored here as the first of its partition."""
    return (
        Difference(reason, scenario, step, "*error_code", chronik=0),
        Difference(reason, scenario, step, "*base_offset", kafka=-1, chronik=0),
    )


_BRACKETS = str.maketrans("[]", "<>")  # brackets mean a set of characters to fnmatch

_LATER = "this API comes with a later release, and what is not served is not advertised"
_UNSERVED = (
    17, 29, 30, 31, 36, 38, 39, 40, 41, 50, 51, 64, 80, 81,
)  # fmt: skip
_PREVIEW = "share groups are advertised where they are served: not at level 0 of their feature"
_SHARES = (76, 77, 78, 79, 83, 84, 85, 86, 87, 90, 91, 92)
_FEATURES = "features that later releases bring (Kafka's own metadata versions) are not there yet"
_TEXT = "an error text tells what was wrong where Kafka gives none; clients go by the code"

_OURS = "a topic has settings of Chronik's own too"
_ELR = (
    "Kafka sets min.insync.replicas for the cluster when it formats its metadata (KIP-966); here it is a plain default"
)
_TIERING = "tiered storage comes with a later release; until then its configs are accepted at their defaults only"
_PREALLOCATION = "files are not allocated before they are written, so preallocate is accepted at its default only"
_ONE_NODE = "replication between nodes comes with a later release; until then there is no throttle of it to set"
_OPAQUE = (
    "batches are opaque: the header and the CRC are checked, records are never decoded between producer and consumer"
)
_STRICT = "a length below zero that is not -1 means no list; the frame is refused instead of read as an empty one"
_AT_ONCE = "a topic made by Metadata is there in the first answer; Kafka answers UNKNOWN and wants another request"
_SILENCE = "Kafka leaves this request without an answer, which its clients see as a time-out"
_SERVER_ERROR = (
    "a refusal with a code that says what is wrong, in place of UNKNOWN_SERVER_ERROR (a Java producer retries on that)"
)
_VERSION = (
    "the reference for old librdkafka: requests at Produce 0 to 2 get UNSUPPORTED_VERSION, Kafka closes the connection"
)
_NO_PRODUCER = "a transactional batch without a producer belongs to no transaction; Kafka stores it, here it is refused"
_NO_MARKED = "a marker of no producer ends nothing, and is not written"
_LIST_BOUND = (
    "aborted transactions are told that concern the batches read; Kafka looks as far as its sparse index reaches"
)
_ONCE = "what is asked for twice in one request is answered once"
_BROKERS_BITS = "a delete horizon, which only compaction sets, is refused from a producer, not stored"
_WHOLE = "a partition's records must be whole batches; Kafka takes the first ones and drops the rest without a word"
_CUT = "a fetch ends with a whole batch; Kafka fills the limit with the piece of one that clients throw away"
_LIMIT = "a negative limit is no limit beyond the first batch; Kafka fails with UNKNOWN_SERVER_ERROR"
_TWICE = "a partition named twice in one request is appended twice; Kafka drops one of the two without a word"
_DELETED = "the id of a deleted topic is unknown; Kafka's session still knows its name, and answers for that"

_QUORUM = "a controller of one node listens for no others, so it has no addresses"
_DOWNGRADE = "version 0 allows a downgrade by a field of its own, which Kafka 4 no longer reads"
_STUCK = "an id whose request was refused is as it was before; Kafka leaves it stuck until its coordinator moves"
_ONE_EPOCH = (
    "a member that leaves begins one epoch, with a target; Kafka begins another for what the member leaves behind"
)
_NOBODY = "a request that names no member of a share group is invalid; Kafka fails, or opens a session for nobody"
_ALTERED = "Kafka 4.1 drops the topics of AlterShareGroupOffsets and does nothing; here they get their start offsets"
_LOGGERS = "a node's loggers have no configs here"
_UNCONFIGURED = "a group that has no configs any more is not listed among those that have; Kafka goes on listing it"

DIFFERENCES: tuple[Difference, ...] = (
    *(Difference(_LATER, path=f"*api_keys[{key}]", chronik="(absent)") for key in _UNSERVED),
    *(Difference(_PREVIEW, path=f"*api_keys[{key}]", chronik="(absent)") for key in _SHARES),
    *(
        Difference(_FEATURES, "api_versions", path=f"answer.{kind}[{name}]", chronik="(absent)")
        for kind, names in (
            ("supported_features", ("eligible.leader.replicas", "kraft", "metadata")),
            ("finalized_features", ("eligible.leader.replicas", "metadata")),
        )
        for name in (f"{each}.version" for each in names)
    ),
    Difference(_TEXT, path="*error_message", kafka=None, chronik="<text>"),
    Difference(_VERSION, "produce_of_old_versions"),
    Difference(_STRICT, "hostile_frames", "client id of length -2*"),
    Difference(_STRICT, "hostile_frames", "an array of -2*"),
    Difference(_QUORUM, "metadata_quorum", "of the metadata*", "*listeners*"),
    Difference(_DOWNGRADE, "feature_levels", "transactions to 1 as version 0 allows it *"),
    Difference(_STUCK, "transactions_without_tagged_fields", "v1 ends instead *", "*error_code", kafka=51, chronik=0),
    Difference(_STUCK, "transactions_without_tagged_fields", "described after that *"),
    Difference(_UNCONFIGURED, "config_resources", "kinds ?32? *", "*config_resources*", chronik="(absent)"),
    Difference(_LOGGERS, "config_resources", "kinds ?8? *", "*config_resources*"),
    Difference(_OURS, path="*configs[chronik.*", kafka="(absent)"),
    Difference(_ELR, path="*configs[min.insync.replicas].config_source"),
    *(
        Difference(reason, "topic_config_values", step, kafka=0, chronik=40)
        for reason, step in (
            (_TIERING, "local.retention.*"),
            (_TIERING, "remote.log.*.disable"),
            (_ONE_NODE, "*.replication.throttled.replicas"),
            (_PREALLOCATION, "preallocate"),
        )
    ),
    Difference(_AT_ONCE, "metadata_creates", "first answer *"),
    Difference(_SERVER_ERROR, "metadata_of_topics", "neither id nor name*", "*error_code"),
    Difference(_SERVER_ERROR, "produce_bad_batches", "codec *", "*error_code", kafka=-1),
    Difference(_SILENCE, "produce_by_version", "null records*"),
    Difference(_NO_PRODUCER, "transactional_produce", "without a producer *", "*error_code", kafka=0, chronik=87),
    Difference(_NO_PRODUCER, "transactional_produce", "without a producer *", "*base_offset", chronik=-1),
    Difference(_SILENCE, "transactional_partitions_batched", "nothing *"),
    Difference(_SILENCE, "markers_by_hand", "a partition twice *"),
    Difference(_SERVER_ERROR, "markers_by_hand", "without an epoch *", "*error_code", kafka=-1, chronik=47),
    Difference(_NO_MARKED, "markers_by_hand", "a negative producer *", "*error_code", kafka=0, chronik=49),
    Difference(_LIST_BOUND, "fetch_committed", "the batch at 4 *", "*aborted_transactions*"),
    Difference(_ONCE, "described_transactions", "both*", "*transaction_states*", chronik="(absent)"),
    *(
        each
        for case in ("count too big", "count too small", "record of wrong length", "bytes after the records")
        for each in (
            *_taken(_OPAQUE, "produce_bad_batches", f"{case} Produce*"),
            Difference(_OPAQUE, "produce_bad_batches", f"after {case} Fetch*"),
        )
    ),
    *_taken(_OPAQUE, "produce_codecs", "* of nonsense *"),
    *_taken(_OPAQUE, "produce_codecs", "gzip of one record *"),
    *_taken(_OPAQUE, "produce_codecs", "gzip of nothing *"),
    Difference(_BROKERS_BITS, "produce_bad_batches", "*delete horizon *"),
    Difference(_OPAQUE, "produce_bad_batches", "after maximal time *", "*max_timestamp"),
    Difference(_WHOLE, "produce_bad_batches", "*good and half *"),
    Difference(_TWICE, "produce_many_partitions", "one partition twice *"),
    Difference(_CUT, "fetch_limits", path="*records[*", kafka=_piece, chronik="(absent)"),
    Difference(_LIMIT, "fetch_limits", "*limit -191 *"),
    Difference(_DELETED, "fetch_session_of_deleted_topic", "after deletion *", "*error_code", kafka=3, chronik=100),
    Difference(_SERVER_ERROR, "fetch_epochs", "isolation 2 *"),
    Difference(_SERVER_ERROR, "list_offsets_isolation", "isolation 2 *"),
    Difference(_SERVER_ERROR, "incremental_alter_configs", "operation 9 *", "*error_code"),
    Difference(_TEXT, "describe_topic_configs", path="*error_message", kafka=""),
    Difference(_ONE_EPOCH, "share_group_life", "first gets all *", "*member_epoch", kafka=5, chronik=4),
    Difference(_ONE_EPOCH, "share_group_life", "empty *", "*_epoch"),
    Difference(_SERVER_ERROR, "share_sessions", "a topic that there is not *"),
    Difference(_NOBODY, "share_sessions", "without a group *", "*error_code"),
    Difference(_NOBODY, "share_sessions", "with an empty group *"),
    Difference(_SERVER_ERROR, "share_acknowledge", "when nothing is left *"),
    Difference(_ALTERED, "share_group_start_offsets"),
)
