"""Signatures of blocks: they never hide a token, in memory, on disk, and after a start; damage is found."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.errors import CorruptLogError
from chronik.log.memory import MemoryDisk
from chronik.native.hashing import HASHES, positions
from chronik.search.required import AllOf, AnyOf
from chronik.search.signatures import BLOCK_BYTES, GROUP_BLOCKS, Block, OpenGroup, WrittenGroup, choose, signature_bits

PATH = "/search/t-0/group"
BITS = signature_bits(BLOCK_BYTES)


def signature(tokens):
    bits = bytearray(BITS // 8)
    for token in tokens:
        for at in positions(token, BITS):
            bits[at >> 3] |= 1 << (at & 7)
    return bits


def block(number):
    return Block(number * 10, number * 10 + 10, 1000 + number, 2000 + number, 10, 300_000)


def group_of(blocks):
    group = OpenGroup(BITS)
    for number, tokens in enumerate(blocks):
        group.add(block(number), signature(tokens))
    return group


def encoded(group):
    steps = group.encoding()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def written(group):
    disk = MemoryDisk()
    disk.make_directory("/search/t-0")
    disk.replace(PATH, encoded(group))
    return disk, WrittenGroup.open(disk, PATH)


class SignatureTests(SynchronousTestCase):
    @given(st.lists(st.sets(st.binary(min_size=1, max_size=9), max_size=60), min_size=1, max_size=20))
    @settings(max_examples=40, deadline=None)
    def test_no_token_is_hidden(self, blocks):
        group = group_of(blocks)
        _, stored = written(group)
        again = stored.reopen(BITS)
        _, twice = written(again)
        for form in (group, stored, again, twice):
            self.assertEqual(len(form), len(blocks))
            self.assertEqual([Block(*row.item()) for row in form.table], [block(n) for n in range(len(blocks))])
            for token in set().union(*blocks):
                found = form.may_hold(token)
                self.assertEqual(found.dtype, bool)
                for number, tokens in enumerate(blocks):
                    self.assertTrue(token not in tokens or found[number])

    def test_few_are_proposed_for_nothing(self):
        """With as many tokens a block as real logs have, in memory and with the bits that a written group is given."""
        for count in (300, 3000, 10_000):
            chance = random.Random(count)
            blocks = [{chance.randbytes(6) for _ in range(count)} for _ in range(64)]
            group = group_of(blocks)
            _, stored = written(group)
            for form in (group, stored):
                proposed = sum(int(form.may_hold(b"absent%d" % number).sum()) for number in range(300))
                self.assertLess(proposed / (300 * 64), 0.006, (count, form))

    def test_bits_are_as_many_as_the_tokens_are_worth(self):
        few, many = group_of([{b"a", b"b"}]), group_of([{b"%d" % n for n in range(10_000)}])
        self.assertLess(len(encoded(few)) * 20, len(encoded(many)))

    def test_a_full_group(self):
        group = OpenGroup(BITS)
        empty = signature([])
        for number in range(GROUP_BLOCKS):
            self.assertFalse(group.full)
            group.add(block(number), signature([b"last"]) if number == GROUP_BLOCKS - 1 else empty)
        self.assertTrue(group.full)
        _, stored = written(group)
        self.assertEqual(stored.may_hold(b"last").nonzero()[0].tolist(), [GROUP_BLOCKS - 1])

    def test_what_is_required_of_a_block(self):
        group = group_of([{b"a"}, {b"a", b"b"}, {b"c"}])
        self.assertEqual(choose(group, AllOf(())).tolist(), [True] * 3)
        both = choose(group, AllOf((b"a", b"b")))
        either = choose(group, AnyOf((b"b", b"c")))
        self.assertEqual((both.tolist(), either.tolist()), ([False, True, False], [False, True, True]))

    @given(st.data())
    @settings(max_examples=80, deadline=None)
    def test_damage_is_found_before_it_hides_anything(self, data):
        """Every bit of the file: either opening it or the look-up that reads it says so, or it doesn't matter."""
        blocks = [{b"a"}, {b"b"}, {b"a", b"b"}]
        disk, _ = written(group_of(blocks))
        content = disk._files[PATH]
        at = data.draw(st.integers(0, len(content) * 8 - 1))
        content[at >> 3] ^= 1 << (at & 7)
        try:
            stored = WrittenGroup.open(disk, PATH)
            self.assertEqual(stored.may_hold(b"a").tolist(), [True, False, True])
            self.assertEqual(stored.may_hold(b"b").tolist(), [False, True, True])
            self.assertEqual(len(stored), 3)
        except CorruptLogError as error:
            self.assertIn("damaged", str(error))

    @given(st.data())
    @settings(max_examples=40, deadline=None)
    def test_a_file_that_is_cut_or_longer(self, data):
        disk, _ = written(group_of([{b"a"}]))
        content = disk._files[PATH]
        size = len(content)
        if data.draw(st.booleans()):
            del content[data.draw(st.integers(0, size - 1)) :]
        else:
            content += b"x"
        self.assertRaises(CorruptLogError, WrittenGroup.open, disk, PATH)

    def test_another_definition_of_tokens_or_hashes_is_another_format(self):
        disk, _ = written(group_of([{b"a"}]))
        self.assertEqual(HASHES, disk._files[PATH][12])
        for at in (8, 10, 12):
            content = disk._files[PATH]
            content[at] += 1
            self.assertRaises(CorruptLogError, WrittenGroup.open, disk, PATH)
            content[at] -= 1
