"""All share groups of one partition of `__consumer_offsets`: their requests, timers, replay, and looking at them (KIP-932).

A group's requests take turns (`chronik.coordinator.turns`). A heartbeat that changes nothing writes nothing. Timers live in
memory: a coordinator that loads a group gives each member one session timeout to be heard.

Before a partition is assigned, the share coordinator has to keep state of it. That goes in three steps: the group writes that
it is being set up; outside, the share coordinator is asked (`Initialise`); the group writes how that went (`settled`). A crash
in between leaves the first, and whoever is heard next begins again. Deletions go the same way.

Pure: what is to be done outside is returned as effects.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

from chronik.coordinator.deadlines import Deadlines
from chronik.coordinator.effects import Effects, Initialise
from chronik.coordinator.reconciling import LEAVING_EPOCH
from chronik.coordinator.settings import GroupSettings
from chronik.coordinator.share_group import Kept, ShareGroup, with_more, without
from chronik.coordinator.share_group_records import ShareEpochKey, ShareKey, ShareValue
from chronik.coordinator.share_heartbeats import ShareDraft, share_heartbeat, without_topics
from chronik.coordinator.subscriptions import Topics
from chronik.coordinator.turns import Turns
from chronik.errors import ErrorCode, KafkaError
from chronik.model import Uuid
from chronik.wire.messages.list_groups import ListedGroup
from chronik.wire.messages.share_group_describe import Assignment as DescribedAssignment
from chronik.wire.messages.share_group_describe import DescribedGroup, Member, TopicPartitions
from chronik.wire.messages.share_group_heartbeat import ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse

SHARE_PROTOCOL = "share"
_ASSIGNOR = "simple"
_RETRY_MS = 1_000
"""A member that could not be removed because the append failed is removed again after this long."""


class _Due(NamedTuple):
    group_id: str
    member_id: str


class ShareGroups:
    """`other` says whether a group of another protocol has an id; `turns` are those of all groups of the partition."""

    def __init__(self, settings: GroupSettings, topics: Topics, turns: Turns, other: Callable[[str], bool]) -> None:
        self.groups: dict[str, ShareGroup] = {}
        self._settings = settings
        self._topics = topics
        self._turns = turns
        self._other = other
        self._settling: dict[str, dict[Uuid, Kept]] = {}
        self._deadlines: Deadlines[_Due] = Deadlines()

    # The log.

    def replay(self, key: ShareKey, value: ShareValue | None) -> None:
        """Take over one record, in the order of the log."""
        group = self.groups.get(key.group)
        if group is None:
            if value is None:
                return
            group = self.groups[key.group] = ShareGroup(key.group)
        group.replay(key, value)
        if value is None and isinstance(key, ShareEpochKey):
            del self.groups[key.group]

    def opening(self, now: int) -> Iterator[None]:
        """The log is read: members have a session to be heard. A step a group."""
        for group in self.groups.values():
            for member_id in group.members:
                self._expect(group.group_id, member_id, now)
            yield

    def close(self) -> None:
        """The groups live elsewhere from now on."""
        self._deadlines = Deadlines()
        self._settling.clear()

    # Deciding.

    def existing(self, group_id: str) -> ShareGroup:
        """The group of that id. Raises KafkaError(GROUP_ID_NOT_FOUND)."""
        group = self.groups.get(group_id)
        if group is None:
            text = "Group {} is not a share group." if self._other(group_id) else "Group {} not found."
            raise KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, text.format(group_id[:249]))
        return group

    def _draft(self, group_id: str) -> ShareDraft:
        settling = self._settling.get(group_id, {})
        return ShareDraft(group_id, self.groups.get(group_id), self._settings, self._topics, settling)

    def _finish(
        self, draft: ShareDraft, token: Any, response: Any, missing: Mapping[Uuid, Kept], due: _Due | None = None
    ) -> Effects:
        """Write what was drafted and answer then; have set up what is `missing`. A timer falls `due` again if that fails."""
        group_id, checked, epoch = draft.group.group_id, draft.group.checked, draft.group.epoch
        if missing:
            self._settling[group_id] = with_more(self._settling.get(group_id, {}), missing)

        def ended(error: KafkaError | None, now: int) -> Effects:
            group = self.groups.get(group_id)
            if error is None and group is not None:
                group.checked = max(group.checked, checked)
                return [Initialise(group_id, epoch, missing)] if missing else []
            self._settled(group_id, missing)
            if due is not None:
                self._deadlines.set(due, now + _RETRY_MS)
            return []

        return self._turns.finish(group_id, draft.entries, token, response, ended=ended)

    def _settled(self, group_id: str, topics: Mapping[Uuid, Kept]) -> None:
        left = without(self._settling.pop(group_id, {}), topics)
        if left:
            self._settling[group_id] = left

    # Members.

    def heartbeat(
        self, request: ShareGroupHeartbeatRequest, client_id: str, client_host: str, token: Any, now: int
    ) -> Effects:
        """ShareGroupHeartbeat, in the group's turn; the request itself has been checked."""

        def decide(now: int) -> Effects:
            if request.member_epoch == LEAVING_EPOCH:
                return self._leave(request, token)
            return self._heartbeat(request, client_id, client_host, token, now)

        return self._turns.take(request.group_id, token, decide, now)

    def _heartbeat(
        self, request: ShareGroupHeartbeatRequest, client_id: str, client_host: str, token: Any, now: int
    ) -> Effects:
        group_id = request.group_id
        if group_id not in self.groups and (request.member_epoch or self._other(group_id)):
            text = "Group {} is not a share group." if self._other(group_id) else "Share group {} not found."
            raise KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, text.format(group_id[:249]))
        draft = self._draft(group_id)
        response, missing = share_heartbeat(draft, request, client_id, client_host)
        self._expect(group_id, request.member_id, now)
        return self._finish(draft, token, response, missing)

    def _leave(self, request: ShareGroupHeartbeatRequest, token: Any) -> Effects:
        self.existing(request.group_id).member(request.member_id)
        draft = self._draft(request.group_id)
        draft.remove(request.member_id)
        self._deadlines.cancel(_Due(request.group_id, request.member_id))
        response = ShareGroupHeartbeatResponse(member_id=request.member_id, member_epoch=request.member_epoch)
        return self._finish(draft, token, response, {})

    # Time.

    def next_deadline(self) -> int | None:
        """When `expire` must be called next."""
        return self._deadlines.next()

    def expire(self, now: int) -> Effects | None:
        """Act on one deadline that has passed; None when there is none."""
        due = self._deadlines.pop(now)
        if due is None:
            return None
        return self._turns.take(due.group_id, None, lambda now: self._expired(due), now)

    def _expired(self, due: _Due) -> Effects:
        """The member is out, unless it has been heard while this waited for its turn."""
        group = self.groups.get(due.group_id)
        if group is None or due.member_id not in group.members or self._deadlines.is_set(due):
            return []
        draft = self._draft(due.group_id)
        draft.remove(due.member_id)
        return self._finish(draft, None, None, {}, due)

    def _expect(self, group_id: str, member_id: str, now: int) -> None:
        session = self._topics.share_session_timeout_ms(group_id, self._settings.group_consumer)
        self._deadlines.set(_Due(group_id, member_id), now + session)

    # State of partitions.

    def settled(
        self, group_id: str, kept: Mapping[Uuid, Kept], failed: Mapping[Uuid, Kept], token: Any, now: int
    ) -> Effects:
        """State is kept of these partitions now; of `failed` ones it could not be set up. Answered when it is written."""
        self._settled(group_id, with_more(kept, failed))

        def decide(now: int) -> Effects:
            group = self.groups.get(group_id)
            draft = self._draft(group_id)
            if group is not None and (kept or failed):
                left = without(without(group.initialising, kept), failed)
                draft.keep(left, with_more(group.initialised, kept), group.deleting)
            return self._finish(draft, token, None, {})

        return self._turns.take(group_id, token, decide, now)

    def begin_altering(self, group_id: str, topics: Mapping[Uuid, Kept], token: Any, now: int) -> Effects:
        """AlterShareGroupOffsets: say that partitions are set up anew. Answered with the group's epoch, if it is empty."""

        def decide(now: int) -> Effects:
            group = self.existing(group_id)
            group.check_empty()
            draft = self._draft(group_id)
            deleting = without_topics(group.deleting, topics)
            draft.keep(with_more(group.initialising, topics), group.initialised, deleting)
            return self._finish(draft, token, group.epoch, {})

        return self._turns.take(group_id, token, decide, now)

    def begin_deleting(self, group_id: str, topic_ids: Collection[Uuid] | None, token: Any, now: int) -> Effects:
        """Say that the state of topics is being deleted, None for all. Answered with the partitions, if the group is empty.

        What was being deleted before a crash is among them, with all of its partitions.
        """

        def decide(now: int) -> Effects:
            group = self.existing(group_id)
            group.check_empty()
            known = with_more(group.initialised, group.initialising if topic_ids is None else {})
            known = with_more(known, self._half_deleted(group))
            chosen = known if topic_ids is None else {each: known[each] for each in topic_ids if each in known}
            draft = self._draft(group_id)
            if chosen:
                deleting = {**group.deleting, **{topic_id: kept.name for topic_id, kept in chosen.items()}}
                initialising = {} if topic_ids is None else group.initialising
                draft.keep(initialising, _others(group.initialised, chosen), deleting)
            return self._finish(draft, token, chosen, {})

        return self._turns.take(group_id, token, decide, now)

    def _half_deleted(self, group: ShareGroup) -> dict[Uuid, Kept]:
        found: dict[Uuid, Kept] = {}
        for topic_id in group.deleting:
            name = self._topics.name_of(topic_id)
            topic = None if name is None else self._topics.get(name)
            if topic is not None:
                found[topic_id] = Kept(topic.name, frozenset(range(len(topic.partitions))))
        return found

    def deleted(self, group_id: str, topic_ids: Collection[Uuid], token: Any, now: int) -> Effects:
        """The state of these topics is deleted. Answered when it is written."""

        def decide(now: int) -> Effects:
            group = self.groups.get(group_id)
            draft = self._draft(group_id)
            if group is not None and any(topic_id in group.deleting for topic_id in topic_ids):
                draft.keep(group.initialising, group.initialised, without_topics(group.deleting, topic_ids))
            return self._finish(draft, token, None, {})

        return self._turns.take(group_id, token, decide, now)

    def forget_topics(self, topic_ids: Collection[Uuid], now: int) -> Iterator[Effects]:
        """Topics are gone, and the state of them with them. A step a group."""
        gone = frozenset(topic_ids)
        for group_id in list(self.groups):
            group = self.groups.get(group_id)
            if group is None or not gone & {*group.initialising, *group.initialised, *group.deleting}:
                continue
            yield self._turns.take(group_id, None, lambda now, group_id=group_id: self._forget(group_id, gone), now)  # type: ignore[misc]

    def _forget(self, group_id: str, gone: frozenset[Uuid]) -> Effects:
        group = self.groups.get(group_id)
        draft = self._draft(group_id)
        if group is not None:
            topics = dict.fromkeys(gone, Kept("", frozenset()))
            draft.keep(
                _others(group.initialising, topics),
                _others(group.initialised, topics),
                without_topics(group.deleting, gone),
            )
        return self._finish(draft, None, None, {})

    def tombstones(self, group_id: str) -> ShareDraft:
        """What deletes the group. Raises KafkaError(NON_EMPTY_GROUP)."""
        self.groups[group_id].check_empty()
        draft = self._draft(group_id)
        draft.delete_group()
        return draft

    # Looking.

    def listings(self) -> Iterator[ListedGroup]:
        """The groups as ListGroups has them."""
        return (
            ListedGroup(
                group_id=group.group_id,
                protocol_type=SHARE_PROTOCOL,
                group_state=group.state,
                group_type=SHARE_PROTOCOL,
            )
            for group in self.groups.values()
        )

    def describe(self, group_id: str) -> DescribedGroup:
        """The group as ShareGroupDescribe has it; topics that are gone are left out. Raises KafkaError(GROUP_ID_NOT_FOUND)."""
        group = self.existing(group_id)
        return DescribedGroup(
            group_id=group.group_id,
            group_state=group.state,
            group_epoch=group.epoch,
            assignment_epoch=group.target_epoch,
            assignor_name=_ASSIGNOR,
            members=[
                Member(
                    member_id=member.member_id,
                    rack_id=member.rack_id,
                    member_epoch=member.epoch,
                    client_id=member.client_id,
                    client_host=member.client_host,
                    subscribed_topic_names=sorted(member.topics),
                    assignment=DescribedAssignment(
                        topic_partitions=[
                            TopicPartitions(topic_id=topic_id, topic_name=name, partitions=sorted(partitions))
                            for topic_id, partitions in member.assigned.items()
                            if (name := self._topics.name_of(topic_id)) is not None
                        ]
                    ),
                )
                for member in group.members.values()
            ],
        )


def _others(topics: Mapping[Uuid, Kept], gone: Mapping[Uuid, Kept]) -> dict[Uuid, Kept]:
    return {topic_id: kept for topic_id, kept in topics.items() if topic_id not in gone}
