"""The bits of a token: fixed for ever, spread evenly, foldable."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.native.hashing import HASHES, distinct_tokens, fold, hash_token, holds, positions


def signature_of(found, bits, hashes=HASHES):
    content = bytearray(bits // 8)
    for token in found:
        for at in positions(token, bits, hashes):
            content[at >> 3] |= 1 << (at & 7)
    return content


class HashTests(SynchronousTestCase):
    def test_fixed(self):
        """What is on disk was made with these."""
        self.assertEqual(hash_token(b""), 0xD67411C4BAF265E9)
        self.assertEqual(hash_token(b"error"), 0x2A9E2EB37FF21E77)
        self.assertEqual(hash_token(b"connection"), 0x70879930BE281995)
        self.assertEqual(hash_token(b"\x00number"), 0x8C6E57362F848CFF)
        self.assertEqual(positions(b"error", 1 << 17), [7799, 19754, 31709, 43664, 55619, 67574, 79529, 91484])

    def test_every_bit_of_a_token_turns_half_of_the_hash(self):
        chance = Random(1)
        for length in (1, 3, 8, 9, 16, 40):
            turned = [0] * 64
            rounds = 0
            for _ in range(300):
                token = bytearray(chance.randbytes(length))
                before, at = hash_token(bytes(token)), chance.randrange(length * 8)
                token[at >> 3] ^= 1 << (at & 7)
                difference = before ^ hash_token(bytes(token))
                rounds += 1
                for bit in range(64):
                    turned[bit] += difference >> bit & 1
            self.assertTrue(all(0.35 < count / rounds < 0.65 for count in turned), (length, turned))

    def test_few_words_that_are_like_each_other_collide(self):
        words = [b"%d" % n for n in range(100_000)] + [b"user%d" % n for n in range(100_000)]
        words += [b"a" * n for n in range(1, 256)] + [b"a" * n + b"b" for n in range(1, 255)]
        self.assertEqual(len({hash_token(word) for word in words}), len(words))
        self.assertLess(len(words) - len({hash_token(word) & 0xFFFFFFFF for word in words}), 20)  # 4.7 by chance

    def test_false_positives_are_as_many_as_theory_has_it(self):
        for hashes in (4, HASHES):
            content = signature_of([b"in%d" % n for n in range(1000)], 1 << 13, hashes)
            share = int.from_bytes(content, "little").bit_count() / (1 << 13)
            wrong = sum(holds(content, b"out%d" % n, hashes) for n in range(20_000))
            self.assertTrue(0.7 < wrong / 20_000 / share**hashes < 1.4, (hashes, share, wrong))

    def test_positions_differ(self):
        for n in range(2000):
            self.assertEqual(len(set(positions(b"%d" % n, 64))), HASHES)

    @given(st.sets(st.binary(min_size=1, max_size=30), max_size=60), st.integers(6, 14), st.integers(6, 14))
    @settings(deadline=None)
    def test_folding_is_as_made_so(self, found, one, other):
        large, small = max(one, other), min(one, other)
        content = signature_of(found, 1 << large)
        self.assertEqual(fold(content, 1 << small), signature_of(found, 1 << small))
        self.assertTrue(all(holds(content, token) for token in found))

    def test_the_count_is_near(self):
        for count in (0, 1, 100, 5_000, 40_000):
            content = signature_of([b"%d" % n for n in range(count)], 1 << 17)
            self.assertTrue(abs(distinct_tokens(content) - count) <= max(1, 0.02 * count), count)
        self.assertGreater(distinct_tokens(b"\xff" * 1024), 8 * 1024 / HASHES)

    def test_sizes_that_no_signature_has(self):
        for bits in (0, 1, 8, 63, 65, 96, 1 << 29, -64):
            self.assertRaises(ValueError, positions, b"a", bits)
        self.assertRaises(ValueError, fold, bytes(8), 128)
        self.assertRaises(ValueError, distinct_tokens, bytes(9))
