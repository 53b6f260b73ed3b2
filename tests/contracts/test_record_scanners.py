"""The contract of IRecordScanner, on the compiled one and on the one in numpy, against plain Python."""

from __future__ import annotations

from random import Random

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase
from zope.interface.verify import verifyObject

import chronik.native.twin
from chronik.errors import ErrorCode, KafkaError
from chronik.native.batches import BATCH, EARLIEST, LATEST, SIGNED
from chronik.native.hashing import HASHES, distinct_tokens, positions
from chronik.native.interfaces import IRecordScanner
from chronik.native.library import find
from chronik.native.records import headers, walk
from chronik.native.sections import MalformedRecords, Reason, Section
from chronik.native.signed import signed_tokens
from chronik.wire.batches import HEADER_BYTES, assemble, assign_offsets, read_header, verify
from chronik.wire.record_scan import write_varint
from chronik.wire.records import Codec, Record, decode_records, encode_batch
from tests.native.texts import RECORDS, TEXTS, WITH_EXPONENTS, WITHOUT_EXPONENTS

# One suite on two providers: hypothesis calls these different executors of the same test.
SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.differing_executors])
BITS = 1 << 16
ANY = 2**31 - 1


def batch_of(fields):
    return bytes(encode_batch([Record(i, when, key, value, h) for i, (key, value, when, h) in enumerate(fields)]))


def section_of(fields):
    return Section(batch_of(fields)[HEADER_BYTES:], len(fields))


def signature_of(found):
    content = bytearray(BITS // 8)
    for token in found:
        for at in positions(token, BITS):
            content[at >> 3] |= 1 << (at & 7)
    return content


def tokens_of(fields):
    found = set()
    for key, value, _, some in fields:
        found |= signed_tokens(key, value, [(name.encode(), content) for name, content in some])
    return found


def record(*body, attributes=b"\0", more=0):
    """A record of these parts; `more` is added to its length."""
    content = attributes + b"".join(body)
    return write_varint(len(content) + more) + content


PLAIN = (b"\0", b"\0", b"\x01", b"\x02v", b"\0")  # timestamp, offset, no key, the value "v", no headers


def stored(fields, offset, codec=Codec.NONE, **options):
    """A batch of these records as a log has it at an offset."""
    records = [Record(i, when, key, value, h) for i, (key, value, when, h) in enumerate(fields)]
    batch = encode_batch(records, codec=codec, **options)
    assign_offsets(batch, offset, 3)
    return batch


def whole_batches(log, upper):
    """What `look_over` says, by the code that reads batches one by one."""
    position = 0
    while True:
        try:
            header = verify(log, position)
        except KafkaError:
            return
        following = min(max(header.next_offset, -(2**63)), 2**63 - 1)
        yield (
            position, header.size, position + HEADER_BYTES, header.size - HEADER_BYTES, header.base_offset, following,
            header.base_timestamp, header.max_timestamp, header.producer_id, header.last_offset_delta, header.record_count,
            header.attributes, header.attributes & 7,
        )  # fmt: skip
        position += header.size
        if following >= upper:
            return


class RecordScannerContract:
    """What every scanner does. `scanner` is one."""

    scanner: IRecordScanner

    def test_provides_the_interface(self):
        verifyObject(IRecordScanner, self.scanner)

    # -- columns --

    @given(RECORDS)
    @SETTINGS
    def test_columns_are_what_the_decoder_says(self, fields):
        batch, section = batch_of(fields), section_of(fields)
        columns = self.scanner.columns(section, len(fields) - 1)
        base = fields[0][2]
        found = [
            Record(int(offset), base + int(when), part(section, key), part(section, value), read_headers(section, some))
            for when, offset, *rest in zip(*columns, strict=True)
            for key, value, some in [(rest[0:2], rest[2:4], rest[4:6])]
        ]
        self.assertEqual(found, list(decode_records(batch, 1 << 20)))
        self.assertEqual([column.dtype for column in columns], [np.int64] + [np.int32] * 7)

    def test_no_records(self):
        columns = self.scanner.columns(Section(b"", 0), ANY)
        self.assertEqual([len(column) for column in columns], [0] * 8)

    def test_any_buffer_will_do(self):
        section = section_of([(b"k", b"v", 5, [])] * 3)
        for buffer in (bytearray(section.records), memoryview(section.records), memoryview(bytearray(section.records))):
            columns = self.scanner.columns(Section(buffer, 3), ANY)
            self.assertEqual(columns.offset_delta.tolist(), [0, 1, 2])

    def test_the_extremes_of_varints(self):
        section = record(write_varint(-(2**63)), write_varint(2**31 - 1), *PLAIN[2:])
        section += record(write_varint(2**63 - 1), *PLAIN[1:])
        section += record(
            b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", b"\x80\x80\x80\x80\x00", *PLAIN[2:]
        )  # 0, as long as it can be
        columns = self.scanner.columns(Section(section, 3), ANY)
        self.assertEqual(columns.timestamp_delta.tolist(), [-(2**63), 2**63 - 1, 0])
        self.assertEqual(columns.offset_delta.tolist(), [2**31 - 1, 0, 0])

    def test_each_fault_is_named(self):
        good = record(*PLAIN)
        over = b"\xff\xff\xff\xff\x7f"  # 35 bits
        for body, count, reason, at, byte in (
            (good, -1, Reason.COUNT, 0, 0),
            (good, 2, Reason.COUNT, 0, 0),
            (good, 0, Reason.TRAILING, 0, 0),
            (good * 2, 1, Reason.TRAILING, 1, 8),
            (good + b"\x0e" + bytes(6), 2, Reason.LENGTH, 1, 8),
            (good + b"\x01" + bytes(6), 2, Reason.LENGTH, 1, 8),
            (good + b"\x00" + bytes(6), 2, Reason.CUT_OFF, 1, 9),
            (good + b"\xff" * 7, 2, Reason.VARINT, 1, 8),
            (good + over + bytes(6), 2, Reason.VARINT, 1, 8),
            (record(b"\xff" * 11), 1, Reason.VARINT, 0, 2),
            (record(b"\xff" * 9 + b"\x02"), 1, Reason.VARINT, 0, 2),
            (record(b"\xff" * 9), 1, Reason.CUT_OFF, 0, 2),
            (record(b"\0", over, *PLAIN[2:]), 1, Reason.VARINT, 0, 3),
            (record(b"\0", b"\x01", *PLAIN[2:]), 1, Reason.OFFSET_DELTA, 0, 3),
            (record(b"\0", b"\x16", *PLAIN[2:]), 1, Reason.OFFSET_DELTA, 0, 3),  # 11, of at most 10
            (record(b"\0\0", b"\x03", *PLAIN[3:]), 1, Reason.LENGTH, 0, 4),
            (record(b"\0\0", b"\x0e", *PLAIN[3:]), 1, Reason.LENGTH, 0, 4),
            (record(b"\0\0\x01", b"\x10v", b"\0"), 1, Reason.LENGTH, 0, 5),
            (record(b"\0\0\x01\x02v", b"\x01"), 1, Reason.HEADER_COUNT, 0, 7),
            (record(b"\0\0\x01\x02v", b"\x04\0\0"), 1, Reason.HEADER_COUNT, 0, 7),
            (record(b"\0\0\x01\x02v", over), 1, Reason.VARINT, 0, 7),
            (record(b"\0\0\x01\x02v", b"\x02", b"\x01\x01"), 1, Reason.NULL_NAME, 0, 8),
            (record(b"\0\0\x01\x02v", b"\x02", b"\0\x04"), 1, Reason.LENGTH, 0, 9),
            (record(b"\0\0\x01\x02v", b"\x02", b"\x02n"), 1, Reason.CUT_OFF, 0, 10),
            (record(*PLAIN, b"xx"), 1, Reason.LEFT_OVER, 0, 8),
            (record(b"\0\0\x01\x06v", b"\0\0", more=-1), 1, Reason.LENGTH, 0, 5),  # the value goes beyond its record
            (record(b"\0\0\0\0"), 1, Reason.COUNT, 0, 0),
            (record(b"\0\0\0\0") + b"\0", 1, Reason.CUT_OFF, 0, 6),
        ):  # fmt: skip
            section = Section(body, count)
            fault = self.assertRaises(MalformedRecords, self.scanner.columns, section, 10)
            self.assertEqual((fault.reason, fault.record, fault.byte), (reason, at, byte), (body, count))
            self.assertEqual(fault.code, ErrorCode.INVALID_RECORD)
            self.assertIn(f"record {at}, at byte {byte}", str(fault))
            if reason is not Reason.OFFSET_DELTA:
                sections = [section_of([(b"k", b"v", 0, [])]), section]
                fault = self.assertRaises(MalformedRecords, self.scanner.sign, sections, bytearray(64), HASHES)
                self.assertEqual((fault.reason, fault.section, fault.record, fault.byte), (reason, 1, at, byte))

    @given(RECORDS, st.data())
    @SETTINGS
    def test_damage_is_found_where_plain_python_finds_it(self, fields, data):
        section = bytearray(section_of(fields).records)
        for _ in range(data.draw(st.integers(1, 3))):
            section[data.draw(st.integers(0, len(section) - 1))] = data.draw(st.integers(0, 255))
        del section[data.draw(st.integers(1, len(section))) :]
        count = max(0, len(fields) + data.draw(st.integers(-1, 1)))
        try:
            expected = list(walk(section, count, 10))
        except MalformedRecords as fault:
            found = self.assertRaises(MalformedRecords, self.scanner.columns, Section(section, count), 10)
            self.assertEqual((found.reason, found.record, found.byte), (fault.reason, fault.record, fault.byte))
        else:
            columns = self.scanner.columns(Section(section, count), 10)
            self.assertEqual([tuple(row) for row in zip(*(c.tolist() for c in columns), strict=True)], expected)

    # -- signatures --

    @given(st.lists(RECORDS, min_size=1, max_size=3))
    @SETTINGS
    def test_signatures_hold_just_the_tokens(self, blocks):
        signature = bytearray(BITS // 8)
        self.scanner.sign([section_of(fields) for fields in blocks], signature, HASHES)
        self.assertEqual(signature, signature_of(set().union(*map(tokens_of, blocks))))

    @given(TEXTS, TEXTS)
    @settings(SETTINGS, max_examples=400)
    def test_of_one_text(self, before, text):
        """With the same bytes as key, value and header, wherever it begins."""
        for fields in ([(text, None, 0, [])], [(before, text, 0, [])], [(None, None, 0, [("a", text)])]):
            signature = bytearray(BITS // 8)
            self.scanner.sign([section_of(fields)], signature, HASHES)
            self.assertEqual(signature, signature_of(tokens_of(fields)))

    def test_numbers_with_exponents_mark_values(self):
        for text in WITH_EXPONENTS + WITHOUT_EXPONENTS:
            for fields in ([(None, text, 0, [])], [(text, b"a", 0, [("b", text)])]):
                signature = bytearray(BITS // 8)
                self.scanner.sign([section_of(fields)], signature, HASHES)
                self.assertEqual(signature, signature_of(tokens_of(fields)), text)

    def test_many_records(self):
        """Enough for numpy to work on all of them at once, whatever they are."""
        chance = Random(5)
        texts = [b"Plain", "Größe".encode(), b'{"a":"b\\nc"}', b"[1e5]", b"", None, b"x y z", b"\xff", b"q" * 300]
        fields = []
        for n in range(400):
            some = [("Name", chance.choice(texts))] * (n % 3)
            fields.append((chance.choice(texts), chance.choice(texts), chance.randrange(-(2**50), 2**50), some))
        section, expected = section_of(fields), list(walk(section_of(fields).records, 400, ANY))
        columns = self.scanner.columns(section, ANY)
        self.assertEqual([tuple(row) for row in zip(*(c.tolist() for c in columns), strict=True)], expected)
        signature = bytearray(BITS // 8)
        self.scanner.sign([section], signature, HASHES)
        self.assertEqual(signature, signature_of(tokens_of(fields)))

    def test_runs_around_what_is_read_at_once(self):
        """Tokens of every length, at every place of a word and of 64 bytes, ASCII and not."""
        chance = Random(3)
        for start in range(66):
            fields = []
            for length in range(1, 140):
                run = bytes(chance.choices(b"abcXYZ019", k=length))
                fields.append((None, b"-" * start + run + b"-" * chance.randrange(3), 0, []))
                fields.append((None, b"a" * start + "é".encode() + run, 0, []))
            signature = bytearray(BITS // 8)
            self.scanner.sign([section_of(fields)], signature, HASHES)
            self.assertEqual(signature, signature_of(tokens_of(fields)), start)

    def test_large_values(self):
        words = b" ".join(b"%x" % n for n in range(400_000))
        for value in (
            b"x" * 3_000_000,
            words,
            b"\\" * 1_000_000,
            "é".encode() * 700_000,
            b"\xff" * 500_000,
            b"9" * 1_000_000,
        ):
            fields = [(b"k", value, 0, [])]
            content, expected = bytearray(1 << 20), bytearray(1 << 20)
            self.scanner.sign([section_of(fields)], content, 1)
            for token in tokens_of(fields):
                (at,) = positions(token, 1 << 23, 1)
                expected[at >> 3] |= 1 << (at & 7)
            self.assertEqual(content, expected)

    def test_signing_adds_to_what_is_there(self):
        first, second = [(b"one", b"two", 0, [])], [(b"three", b"1e5", 0, [])]
        signature = bytearray(BITS // 8)
        self.scanner.sign([section_of(first)], memoryview(signature), HASHES)
        self.scanner.sign([section_of(second)], signature, HASHES)
        self.scanner.sign([], signature, HASHES)
        self.assertEqual(signature, signature_of(tokens_of(first) | tokens_of(second)))
        self.assertEqual(distinct_tokens(signature), 5)

    def test_more_hashes_and_fewer(self):
        fields = [(b"key", b"some words of a value", 0, [])]
        for hashes in (1, 2, 16):
            signature, expected = bytearray(1024), bytearray(1024)
            self.scanner.sign([section_of(fields)], signature, hashes)
            for token in tokens_of(fields):
                for at in positions(token, 8192, hashes):
                    expected[at >> 3] |= 1 << (at & 7)
            self.assertEqual(signature, expected)

    # -- batches --

    @given(st.lists(RECORDS, min_size=1, max_size=5), st.data())
    @SETTINGS
    def test_batches_are_looked_over_as_wire_reads_them(self, blocks, data):
        log, offset = bytearray(), data.draw(st.integers(0, 2**40))
        for fields in blocks:
            codec = data.draw(st.sampled_from([Codec.NONE, Codec.LZ4, Codec.GZIP]))
            log += stored(fields, offset, codec, producer_id=data.draw(st.sampled_from([-1, 7, 2**62])))
            offset += len(fields)
        for _ in range(data.draw(st.integers(0, 2))):
            log[data.draw(st.integers(0, len(log) - 1))] = data.draw(st.integers(0, 255))
        del log[data.draw(st.integers(0, len(log))) :]
        upper = data.draw(st.integers(offset - 20, offset + 1))
        expected = list(whole_batches(log, upper))
        rows = self.scanner.look_over(log, upper)
        self.assertEqual(rows.dtype, BATCH)
        self.assertEqual(rows.tolist(), expected)

    def test_headers_with_extremes(self):
        """A header may say anything, as long as its CRC is right, and as to the offset even then."""
        for base, delta, count, attributes in (
            (2**63 - 1, 2**31 - 1, 2**31 - 1, -1), (-(2**63), -(2**31), -(2**31), -(2**15)), (2**63 - 1, -1, 0, 0),
            (2**63 - 2, 0, -1, 0x77),
        ):  # fmt: skip
            header = read_header(batch_of([(None, b"v", 0, [])]))._replace(
                base_offset=base, last_offset_delta=delta, record_count=count, attributes=attributes,
                base_timestamp=-(2**63), max_timestamp=2**63 - 1, producer_id=-(2**63),
            )  # fmt: skip
            log = assemble(header, b"no records")
            self.assertEqual(self.scanner.look_over(log, 2**63 - 1).tolist(), list(whole_batches(log, 2**63 - 1)))
            self.assertEqual(len(self.scanner.look_over(log, 2**63 - 1)), 1)
            (signed,) = self.scanner.sign_batches([(log, self.scanner.look_over(log, 0))], bytearray(64), HASHES)
            self.assertNotEqual(int(signed["reason"][0]), 0)

    def test_crcs_of_batches_of_all_sizes(self):
        """One that is wrong ends it, wherever, however large; those before it stand."""
        sizes = [*range(40), 500, *range(1970, 2000), 2040, 2048, 2049, 70_000, 3, 100_000, 5]
        batches = [stored([(None, b"v" * size, 0, [])], n) for n, size in enumerate(sizes)]
        log = bytearray().join(batches)
        self.assertEqual(
            self.scanner.look_over(memoryview(log), 10**9)["base_offset"].tolist(), list(range(len(sizes)))
        )
        at = 0
        for number, batch in enumerate(batches):
            for byte in {17, 20, 21, 60, len(batch) - 1}:
                log[at + byte] ^= 0x10
                self.assertEqual(len(self.scanner.look_over(log, 10**9)), number)
                log[at + byte] ^= 0x10
            at += len(batch)

    def test_nothing_whole(self):
        batch = stored([(None, b"v", 0, [])], 0)
        for size in range(len(batch)):
            self.assertEqual(len(self.scanner.look_over(batch[:size], 10)), 0)
            self.assertEqual(len(self.scanner.look_over(bytes(size), 10)), 0)
            self.assertEqual(len(self.scanner.look_over(b"\xff" * size, 10)), 0)
        signature = bytearray(64)
        (signed,) = self.scanner.sign_batches([(b"", self.scanner.look_over(b"", 1))], signature, HASHES)
        self.assertEqual(len(signed), 0)
        self.assertEqual(self.scanner.sign_batches([], signature, HASHES), [])
        self.assertEqual(signature, bytes(64))

    @given(st.lists(RECORDS, min_size=1, max_size=4), st.data())
    @SETTINGS
    def test_batches_are_signed_as_sections_are(self, blocks, data):
        """And timed; what is wrong with one is said of that one, and changes nothing for the others."""
        log, tokens, expected = bytearray(), set(), []
        for fields in blocks:
            section = bytearray(section_of(fields).records)
            if data.draw(st.integers(0, 2)) == 0:
                section[data.draw(st.integers(0, len(section) - 1))] = data.draw(st.integers(0, 255))
            header = read_header(batch_of(fields))._replace(
                record_count=len(fields) + data.draw(st.sampled_from([0, 0, 0, 0, -1, 1])),
                last_offset_delta=data.draw(
                    st.sampled_from([len(fields) - 1, len(fields), 2**31 - 1, len(fields) - 2])
                ),
                base_timestamp=data.draw(st.sampled_from([fields[0][2], 2**63 - 1, -(2**63)])),
                attributes=data.draw(st.sampled_from([0, 8])),
            )
            log += assemble(header, section)
            try:
                rows = list(walk(section, header.record_count, header.last_offset_delta))
            except MalformedRecords as fault:
                expected.append((LATEST, EARLIEST, fault.reason))
                continue
            times = [(row.timestamp_delta + header.base_timestamp + 2**63) % 2**64 - 2**63 for row in rows]
            if header.log_append_time:
                times = [header.max_timestamp] * len(rows)
            expected.append((min(times, default=LATEST), max(times, default=EARLIEST), 0))
            content = self.scanner.columns(Section(section, header.record_count), ANY)
            for key, value, some in zip(
                zip(content.key_start, content.key_length, strict=True),
                zip(content.value_start, content.value_length, strict=True),
                zip(content.headers_start, content.header_count, strict=True),
                strict=True,
            ):
                whole = Section(section, 0)
                tokens |= signed_tokens(part(whole, key), part(whole, value), headers(section, *map(int, some)))
        table = self.scanner.look_over(log, 2**62)
        self.assertEqual(len(table), len(blocks))
        signature = bytearray(BITS // 8)
        (signed,) = self.scanner.sign_batches([(log, table)], signature, HASHES)
        self.assertEqual(signed.dtype, SIGNED)
        self.assertEqual(signed.tolist(), expected)
        wanted = signature_of(tokens)
        if all(reason == 0 for _, _, reason in expected):
            self.assertEqual(signature, wanted)
        else:
            self.assertEqual(bytes(a & b for a, b in zip(signature, wanted, strict=True)), bytes(wanted))

    def test_some_of_the_batches_are_signed(self):
        log = bytearray().join(stored([(None, b"word%d" % n, n, [])], n) for n in range(9))
        table = self.scanner.look_over(log, 9)
        for some in (table[2:5], table[::3], table[[8, 1]], table[:0]):
            signature = bytearray(BITS // 8)
            (signed,) = self.scanner.sign_batches([(log, some)], signature, HASHES)
            self.assertEqual(signed["first_timestamp"].tolist(), some["base_offset"].tolist())
            self.assertEqual(signature, signature_of({b"word%d" % n for n in some["base_offset"]}))

    def test_rows_of_something_else_are_refused(self):
        log = stored([(None, b"some words", 0, [])], 0)
        for column, value in (
            ("records", -1), ("records", 62), ("records", 2**63 - 1), ("records_size", -1),
            ("records_size", len(log) - 60), ("records_size", 2**31), ("records_size", 2**63 - 1),
        ):  # fmt: skip
            table = self.scanner.look_over(log, 1).copy()
            table[column] = value
            pieces = [(log, self.scanner.look_over(log, 1)), (log, table)]
            self.assertRaises(ValueError, self.scanner.sign_batches, pieces, bytearray(64), HASHES)
        pieces = [(log, self.scanner.look_over(log, 1))]
        self.assertRaises(ValueError, self.scanner.sign_batches, [(log, np.zeros(3))], bytearray(64), HASHES)
        self.assertRaises(ValueError, self.scanner.sign_batches, pieces, bytearray(9), HASHES)
        self.assertRaises(ValueError, self.scanner.sign_batches, pieces, bytearray(64), 0)

    def test_records_are_where_the_rows_say(self):
        """In several buffers, behind other things, not in the order of the batches."""
        batches = [stored([(None, b"word%d" % n, n, [])], n) for n in range(4)]
        table = np.concatenate([self.scanner.look_over(batch, 9) for batch in batches])
        sections = [bytes(batch[HEADER_BYTES:]) for batch in batches]
        table["position"] = table["size"] = -1
        table["records"] = [5, 0, len(sections[1]), 0]
        pieces = [
            (b"12345" + sections[0], table[:1]),
            (sections[1] + sections[2], table[[2, 1]]),
            (sections[3], table[3:]),
        ]
        signature = bytearray(BITS // 8)
        signed = self.scanner.sign_batches(pieces, signature, HASHES)
        self.assertEqual([each["first_timestamp"].tolist() for each in signed], [[0], [2, 1], [3]])
        self.assertEqual(signature, signature_of({b"word0", b"word1", b"word2", b"word3"}))

    def test_signatures_of_no_size(self):
        for size in (0, 1, 7, 9, 12):
            self.assertRaises(ValueError, self.scanner.sign, [], bytearray(size), HASHES)

    def test_numbers_of_hashes_that_make_no_sense(self):
        for hashes in (-1, 0, 65, 2**31):
            self.assertRaises(ValueError, self.scanner.sign, [], bytearray(64), hashes)

    def test_a_signature_must_be_writable(self):
        section = section_of([(b"k", b"v", 0, [])])
        self.assertRaises((TypeError, ValueError, BufferError), self.scanner.sign, [section], bytes(64), HASHES)


def part(section, place):
    start, length = place
    return bytes(section.records[start : start + length]) if length >= 0 else None


def read_headers(section, place):
    return tuple((name.decode("utf-8", "replace"), value) for name, value in headers(section.records, *map(int, place)))


class NumpyScannerTests(RecordScannerContract, SynchronousTestCase):
    def setUp(self):
        self.scanner = chronik.native.twin.NumpyScanner()


class NumpyForFewTests(NumpyScannerTests):
    """Numpy where plain Python would be taken, for sections of few records: hypothesis makes few."""

    def setUp(self):
        super().setUp()
        self.patch(chronik.native.twin, "_FEW", 1)


class CompiledScannerTests(RecordScannerContract, SynchronousTestCase):
    def setUp(self):
        found = find()
        if found.path is None:
            raise SkipTest(found.text)
        from chronik.native.compiled import CompiledScanner

        self.scanner = CompiledScanner(found.path)
