"""The native code by itself: records into columns, records into signatures, stored batches into signatures, in C and in numpy.

On the corpus of `benchmarks.corpus`, in memory, one thread, per second of its CPU time; each figure is the best of several
runs. A signature is of a block: batches of 256 KB decoded together. And how often signatures err, by their size and by the
bits that a token sets: asked for tokens that are not there, over blocks of the corpus.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

import numpy as np

from benchmarks import corpus
from benchmarks.results import Results
from benchmarks.schedule import Schedule
from chronik.log.committed import Run
from chronik.native.compiled import CompiledScanner
from chronik.native.hashing import HASHES, fold, hash_token
from chronik.native.interfaces import IRecordScanner
from chronik.native.library import find
from chronik.native.sections import Section
from chronik.native.twin import NumpyScanner
from chronik.search.pending import take
from chronik.wire.compression import decompress
from chronik.wire.records import HEADER_BYTES, Codec, Record, decode_records, encode_batch, verify

PART = "native"
BLOCK_BYTES = 256 * 1024
BITS = 1 << 17
BATCH_SIZES = (1000, 80, 1)
TRIED_HASHES = (2, 4, 6, 7, 8, 9, 10, 12, 16)
TRIED_BITS = tuple(1 << n for n in (15, 16, 17, 18))
_LARGEST_BITS = max(TRIED_BITS)
_MOST_BYTES = 1 << 28
_ANY_OFFSET = 2**31 - 1


def run(results: Results, schedule: Schedule) -> None:
    """Measure what `results` lacks. Raises RuntimeError where the C code is not compiled: half a table says nothing."""
    found = find()
    if found.path is None:
        raise RuntimeError(found.text)
    scanners: dict[str, IRecordScanner] = {"C": CompiledScanner(found.path), "numpy": NumpyScanner()}
    for size in BATCH_SIZES:
        name = f"batches-of-{size}"
        if not results.has(PART, name):
            schedule.say(f"native code, batches of {size}")
            batches = stored_batches(schedule.native_messages, size)
            plain = stored_batches(schedule.native_messages, size, Codec.NONE)
            rates = {which: measure(scanner, batches, plain) for which, scanner in scanners.items()}
            rates["plain Python"] = {"columns": _rate(partial(_decode, batches), batches)}
            results.put(PART, name, {"records_in_batch": size, "compiler": found.text, "rates": rates})
    if not results.has(PART, "false-positives"):
        schedule.say("false positives of signatures")
        scanner = scanners["C"]
        results.put(PART, "false-positives", false_positives(scanner, blocks(_sections(stored_batches(20_000, 1000)))))


# -- speed --------------------------------------------------------------------------------------------------------------


def stored_batches(messages: int, size: int, codec: Codec = Codec.LZ4) -> list[bytes]:
    """The corpus in batches of `size` records, as a log has them."""
    found, records = [], []
    for message in corpus.messages(messages):
        records.append(Record(len(records), message.timestamp, message.key, message.value))
        if len(records) == size:
            found.append(bytes(encode_batch(records, codec=codec)))
            records = []
    return found


def measure(scanner: IRecordScanner, batches: Sequence[bytes], plain: Sequence[bytes]) -> dict[str, dict[str, float]]:
    """Records and megabytes (decoded) a second, by task. `plain` are the same batches, uncompressed."""
    sections = _sections(batches)
    ready = blocks(sections)
    stored, stored_plain = pieces(batches), pieces(plain)
    return {
        "columns": _rate(lambda: [scanner.columns(section, _ANY_OFFSET) for section in sections], batches),
        "sign": _rate(lambda: [_sign(scanner, block) for block in ready], batches),
        "stored to signature": _rate(lambda: _index(scanner, stored), batches),
        "stored to signature, uncompressed": _rate(lambda: _index(scanner, stored_plain), batches),
    }


def pieces(batches: Sequence[bytes]) -> list[bytes]:
    """What is read of a log at once: whole batches of 256 KB together."""
    found: list[list[bytes]] = [[]]
    size = 0
    for batch in batches:
        found[-1].append(batch)
        size += len(batch)
        if size >= BLOCK_BYTES:
            found.append([])
            size = 0
    return [b"".join(some) for some in found if some]


def blocks(sections: Sequence[Section]) -> list[list[Section]]:
    """Runs of sections of `BLOCK_BYTES` or more, without an unfinished last one, if there are others."""
    found: list[list[Section]] = [[]]
    size = 0
    for section in sections:
        found[-1].append(section)
        size += len(section.records)
        if size >= BLOCK_BYTES:
            found.append([])
            size = 0
    return found[:-1] or found


def _sections(batches: Sequence[bytes]) -> list[Section]:
    return [_section(batch) for batch in batches]


def _section(batch: bytes) -> Section:
    header = verify(batch)
    records = decompress(header.codec, memoryview(batch)[HEADER_BYTES : header.size], _MOST_BYTES)
    return Section(records, header.record_count)


def _sign(scanner: IRecordScanner, block: Sequence[Section]) -> bytearray:
    signature = bytearray(BITS // 8)
    scanner.sign(block, signature, HASHES)
    return signature


def _index(scanner: IRecordScanner, stored: Sequence[bytes]) -> int:
    """What indexing does with pieces of a segment: headers and CRCs, decompress, sign, fold. Returns the bytes made."""
    made = size = 0
    signature = bytearray(BITS // 8)
    for piece in stored:
        run, row = Run(0, 0, piece, scanner.look_over(piece, _ANY_OFFSET), _ANY_OFFSET), 0
        while row < len(run.rows):
            taken = take(run, row, BLOCK_BYTES - size)
            scanner.sign_batches([(each.buffer, each.rows) for each in taken.pieces], signature, HASHES)
            row = taken.following
            size += sum(int(each.rows["records_size"].sum()) for each in taken.pieces)
            if size >= BLOCK_BYTES:
                made += len(fold(signature, BITS // 2))
                signature, size = bytearray(BITS // 8), 0
    return made


def _decode(batches: Sequence[bytes]) -> int:
    return sum(1 for batch in batches for _ in decode_records(batch, _MOST_BYTES))


def _rate(work: Callable[[], Any], batches: Sequence[bytes], repeats: int = 5, enough: float = 3.0) -> dict[str, float]:
    """The best of `repeats` runs, or of as many as take `enough` seconds; at least one."""
    best, spent = float("inf"), 0.0
    for _ in range(repeats):
        begun = time.thread_time()
        work()
        took = time.thread_time() - begun
        best, spent = min(best, took), spent + took
        if spent > enough:
            break
    sections = _sections(batches)
    return {
        "records_per_second": sum(section.count for section in sections) / best,
        "megabytes_per_second": sum(len(section.records) for section in sections) / best / 1e6,
    }


# -- false positives ----------------------------------------------------------------------------------------------------


def false_positives(scanner: IRecordScanner, ready: Sequence[Sequence[Section]], asked: int = 50_000) -> dict[str, Any]:
    """The share of absent tokens that signatures seem to hold, by bits and hashes, with the share of bits set."""
    chance = Random(1)
    hashes = np.array([hash_token(b"%032x" % chance.getrandbits(128)) for _ in range(asked)], np.uint64)
    rows = []
    for count in TRIED_HASHES:
        full = []
        for block in ready:
            signature = bytearray(_LARGEST_BITS // 8)
            scanner.sign(block, signature, count)
            full.append(signature)
        for bits in TRIED_BITS:
            folded = [np.frombuffer(fold(signature, bits), np.uint8) for signature in full]
            filled = float(np.mean([np.unpackbits(signature).mean() for signature in folded]))
            wrong = float(np.mean([_held(signature, hashes, count).mean() for signature in folded]))
            rows.append({"bits": bits, "hashes": count, "filled": filled, "wrong": wrong})
    sizes = [sum(len(section.records) for section in block) for block in ready]
    return {"rows": rows, "bytes_in_block": sum(sizes) / len(sizes), "distinct_tokens": _distinct(scanner, ready)}


def _distinct(scanner: IRecordScanner, ready: Sequence[Sequence[Section]]) -> float:
    """Different tokens in a block, in the mean: with one hash in a signature so large that they do not meet."""
    counts = []
    for block in ready:
        signature = bytearray(1 << 24)
        scanner.sign(block, signature, 1)
        counts.append(int.from_bytes(signature, "little").bit_count())
    return sum(counts) / len(counts)


def _held(signature: Any, hashes: Any, count: int) -> Any:
    """For each hash, whether all of its bits are set."""
    step, bits = hashes >> np.uint64(32) | np.uint64(1), np.uint64(len(signature) * 8)
    held = np.ones(len(hashes), np.bool_)
    for turn in range(count):
        at = (hashes + np.uint64(turn) * step) % bits
        held &= (signature[at >> np.uint64(3)] >> (at & np.uint64(7)).astype(np.uint8) & 1).astype(np.bool_)
    return held
