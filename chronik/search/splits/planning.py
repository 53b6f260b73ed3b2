"""What of a partition is answered by its splits: the planner.

Each split is asked how many of its records fit the query's proposal, within the offsets that are searched. Then

- where the proposal is exact and the split may count, the number is taken. Its records are looked at only for hits that are
  to be shown, and are not counted again;
- where there are at most `MAX_PROPOSED` of them, they are fetched, and no other record of the range is looked at;
- where there are more, which records those are costs more to say than to find: the range is left to tier 1.

Where the best are wanted, a split that may count and has many tells its best ones, and what no other can score more than
(`chronik.search.splits.ranking`). The others are looked at only where that leaves one a chance.

A question that fails costs the split, and nothing else: its range is tier 1's.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chronik.errors import ChronikError
from chronik.search.messages import Costs
from chronik.search.splits.partition_splits import PartitionSplits, Split
from chronik.search.splits.proposals import Every, Offsets, Proposal, Tree
from chronik.search.splits.ranking import Ranking, bound

MAX_PROPOSED = 10_000
"""Records of one split that are fetched one by one."""
RANKED = 1000
"""Where more records of a split are hits, it is asked for the best."""

_NONE = np.zeros(0, np.int64)


class Asked(NamedTuple):
    """The splits of a partition, and what of a query they are asked. With a `ranking` the hits that score best are wanted."""

    splits: PartitionSplits
    proposal: Proposal
    ranking: Ranking | None = None


class Choice(NamedTuple):
    """What was chosen for offsets `first` to `following`: only the records at `proposed` are candidates, where it is not None;
    those that are hits were `counted` already. The others score `rest` at most; None: none of them is a hit.
    """

    first: int
    following: int
    proposed: NDArray[np.int64] | None
    counted: bool
    rest: float | None = None


class Piece(NamedTuple):
    """A part of a range of offsets that is gone through in one way; see `Choice`."""

    first: int
    following: int
    proposed: NDArray[np.int64] | None
    counted: bool


def choose_splits(
    asked: Asked, start: int, upper: int, counted: Callable[[int], object] | None, shown: bool, costs: Costs
) -> Generator[None, None, list[Choice]]:
    """The choices for offsets `start` to `upper`, in their order. Yields while a split is asked, and after each.

    `counted` takes a number of hits; None where every hit has to be looked at. `shown`: hits are wanted beside their number.
    """
    choices: list[Choice] = []
    tree = asked.proposal.tree
    if tree is None:
        return choices
    for split in list(asked.splits.ready):
        first, following = max(split.manifest.first, start), min(split.manifest.following, upper)
        if first >= following:
            continue
        costs.splits += 1
        whole = (first, following) == (split.manifest.first, split.manifest.following)
        within = tree if whole else Every((tree, Offsets(first, following - 1)))
        may_count = asked.proposal.exact and split.may_count and counted is not None
        try:
            ranked = asked.ranking if may_count and shown else None
            answer = yield from asked.splits.elsewhere(partial(_asked, split, within, shown or not may_count, ranked))
        except ChronikError as fault:
            asked.splits.distrust(split, fault)
            continue
        number, proposed, rest = answer
        if may_count and counted is not None:
            counted(number)
            costs.splits_counted += 1
            costs.counted_hits += number
        if proposed is None:
            costs.splits_too_wide += 1
        elif len(proposed):
            costs.splits_proposing += 1
            costs.proposed_records += len(proposed)
        costs.splits_ranked += rest is not None
        choices.append(Choice(first, following, proposed, may_count, rest))
        yield
    return choices


def _asked(
    split: Split, tree: Tree, which: bool, ranked: Ranking | None
) -> tuple[int, NDArray[np.int64] | None, float | None]:
    """How many records of the split fit; and `which`, if that is asked, None where they are too many. Takes milliseconds.

    With a ranking, of many only the best, and what the others score at most.
    """
    number = split.inverted.count(tree)
    if not number or not which:
        return number, _NONE, None
    if ranked is not None and split.manifest.words and number > RANKED:
        proposed, following = split.inverted.best(tree, ranked, max(MAX_PROPOSED, ranked.size))
        return number, proposed, None if following is None else bound(ranked, split.manifest, following)
    return number, split.inverted.offsets(tree, number) if number <= MAX_PROPOSED else None, None


def pieces(first: int, following: int, choices: Sequence[Choice]) -> Iterator[Piece]:
    """Offsets `first` to `following` in pieces, each gone through in one way; none where nothing is left to look at."""
    at = first
    for choice in choices[bisect_right(choices, first, key=lambda each: each.following) :]:
        if choice.first >= following:
            break
        if choice.first > at:
            yield Piece(at, choice.first, None, False)
        at, end = max(at, choice.first), min(following, choice.following)
        if choice.proposed is None:
            yield Piece(at, end, None, choice.counted)
        else:
            low, high = np.searchsorted(choice.proposed, (at, end))
            if low < high:
                yield Piece(at, end, choice.proposed[low:high], choice.counted)
        at = end
    if at < following:
        yield Piece(at, following, None, False)


def are_proposed(first: int, following: int, choices: Sequence[Choice]) -> bool:
    """Whether the splits alone say which records of these offsets are candidates."""
    at = first
    for choice in choices:
        if choice.proposed is not None and choice.first <= at < choice.following:
            at = choice.following
    return at >= following
