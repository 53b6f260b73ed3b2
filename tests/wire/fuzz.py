"""Throws damaged bytes at everything in the wire tier that reads bytes from outside.

Inputs are valid requests, responses, frames, batches and compressed data, mutated, and plain random bytes. Whatever
happens, only KafkaError (MalformedMessage and UnsupportedField are such) may come out, what is accepted must survive
being encoded again, and memory must stay in proportion to the input. Input `i` of a seed depends on nothing but the two
numbers::

    python -m tests.wire.fuzz --inputs 1000000 --seed 1
    python -m tests.wire.fuzz --inputs 1 --seed 1 --first 123456
"""

from __future__ import annotations

import argparse
import resource
import struct
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from random import Random

from crc32c import crc32c

from chronik.errors import KafkaError
from chronik.wire.apis import ApiKey, message_classes
from chronik.wire.codec import Message, Request
from chronik.wire.compression import Codec, compress, decompress
from chronik.wire.frames import (
    FrameReader,
    encode_request,
    encode_response,
    read_fixed_header,
    read_request_header,
    response_body,
)
from chronik.wire.records import (
    Record,
    check_produced,
    decode_records,
    encode_batch,
    recompress,
    split_batches,
    verify,
)
from tests.wire.values import all_messages, random_message

MAX_DECOMPRESSED = 1 << 20
TRACED_EVERY = 200
"""Every so many inputs run under tracemalloc, which makes them several times slower."""

FIXED_BYTES = 512 * 1024
BYTES_PER_BYTE = 100
"""What a decoder may allocate at its peak: a fixed part (compiling included), and so much for each byte of input."""

_NUMBERS = [
    *(struct.pack(">b", n) for n in (-1, 0, 1, 127, -128)),
    *(struct.pack(">h", n) for n in (-1, 0, 32767, -32768, 1000)),
    *(struct.pack(">i", n) for n in (-1, 0, 2**31 - 1, -(2**31), 100_000_000)),
    *(struct.pack(">q", n) for n in (-1, 2**63 - 1, -(2**63))),
    b"\xff\xff\xff\xff\x0f",
    b"\xff\xff\xff\xff\x7f",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"\xff" * 11,
]


class Corpus:
    """The valid inputs, from a seed of their own."""

    def __init__(self, seed: int = 20_000) -> None:
        rng = Random(seed)
        self.messages: list[tuple[type[Message], int, bytes]] = []
        self.frames: list[bytes] = []
        self.replies: list[tuple[type[Message], int, bytes]] = []
        for _, cls, version in all_messages():
            message = random_message(cls, version, rng)
            self.messages.append((cls, version, message.encode(version)))
            if issubclass(cls, Request):
                self.frames.append(b"".join(encode_request(message, version, 7, "fuzz")))
            else:
                self.replies.append((cls, version, b"".join(encode_response(message, version, 7))[4:]))
        headers = (("trace", b"1"), ("empty", None))
        records = [Record(i, 1_700_000_000_000 + i, b"key-%d" % i, b"value" * i, headers[: i % 3]) for i in range(20)]
        self.batches = [
            bytes(
                encode_batch(
                    records[: rng.randint(1, 20)],
                    codec=codec,
                    producer_id=rng.choice((-1, 9)),
                    producer_epoch=0,
                    base_sequence=0,
                )
            )
            for codec in Codec
            for _ in range(4)
        ]
        plain = b"".join(b"%d:%d;" % (i, i * i) for i in range(3000)) + bytes(40_000)
        self.compressed = [(codec, bytes(compress(codec, plain[:size]))) for codec in Codec for size in (0, 9, 70_000)]


def mutate(data: bytes, rng: Random) -> bytearray:
    """`data` with one to four injuries."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(7)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(out):
            out[at] = rng.randrange(256)
        elif kind == 2:
            del out[at:]
        elif kind == 3:
            out[at:at] = rng.randbytes(rng.randrange(1, 20))
        elif kind == 4:
            del out[at : at + rng.randrange(1, 20)]
        elif kind == 5:
            number = rng.choice(_NUMBERS)
            out[at : at + len(number)] = number
        else:
            start = rng.randrange(len(out) + 1)
            out[at:at] = out[start : start + rng.randrange(1, 100)]
    return out


def fuzz_message(corpus: Corpus, rng: Random) -> int:
    cls, version, valid = rng.choice(corpus.messages)
    data = mutate(valid, rng) if rng.random() < 0.9 else rng.randbytes(rng.randrange(200))
    _decode(cls, version, memoryview(data))
    return len(data)


def _decode(cls: type[Message], version: int, data: memoryview, position: int = 0) -> None:
    message, end = cls.decode(data, version, position)
    assert position <= end <= len(data), "a decoder read beyond its buffer"
    try:
        again = message.encode(version)
    except KafkaError as error:
        raise AssertionError(f"what was accepted cannot be encoded: {error}") from error
    copy, end = cls.decode(again, version)
    assert end == len(again)
    assert copy.encode(version) == again, "what was accepted does not survive"


def fuzz_frame(corpus: Corpus, rng: Random) -> int:
    data = bytes(mutate(rng.choice(corpus.frames), rng))
    cut = rng.randrange(len(data) + 1)
    reader = FrameReader(max_bytes=1 << 20)
    for frame in [*reader.feed(data[:cut]), *reader.feed(data[cut:])]:
        key, version, _ = read_fixed_header(frame)
        if key in ApiKey.__members__.values() and message_classes(ApiKey(key))[0].VERSIONS.has(version):
            cls = message_classes(ApiKey(key))[0]
            header = read_request_header(frame, cls.is_flexible(version))
            _decode(cls, version, memoryview(frame), header.body)
    return len(data)


def fuzz_reply(corpus: Corpus, rng: Random) -> int:
    cls, version, valid = rng.choice(corpus.replies)
    data = mutate(valid, rng)
    _, body = response_body(data, cls, version)  # type: ignore[arg-type]
    _decode(cls, version, memoryview(data), body)
    return len(data)


def fuzz_batch(corpus: Corpus, rng: Random) -> int:
    data = mutate(rng.choice(corpus.batches), rng)
    if len(data) > 61 and rng.random() < 0.7:  # let damage through to what lies behind length and CRC
        struct.pack_into(">i", data, 8, len(data) - 12)
        struct.pack_into(">I", data, 17, crc32c(data[21:]))
    step = rng.randrange(5)
    if step == 0:
        check_produced(memoryview(data))
    elif step == 1:
        verify(data)
    elif step == 2:
        for position, header in split_batches(data + data):
            assert 0 <= position <= position + header.size <= 2 * len(data)
    elif step == 3:
        for record in decode_records(data, MAX_DECOMPRESSED):
            assert record.key is None or len(record.key) <= MAX_DECOMPRESSED
    else:
        recompress(data, rng.choice(list(Codec)), MAX_DECOMPRESSED)
    return len(data)


def fuzz_compressed(corpus: Corpus, rng: Random) -> int:
    codec, valid = rng.choice(corpus.compressed)
    data = mutate(valid, rng)
    plain = decompress(codec, memoryview(data), MAX_DECOMPRESSED)
    assert len(plain) <= MAX_DECOMPRESSED
    return len(data) + MAX_DECOMPRESSED // BYTES_PER_BYTE


TARGETS: tuple[Callable[[Corpus, Random], int], ...] = (
    *(fuzz_message,) * 6,
    *(fuzz_frame,) * 3,
    *(fuzz_reply,) * 3,
    *(fuzz_batch,) * 4,
    fuzz_compressed,
)


def run(inputs: int, seed: int, first: int = 0) -> Counter[str]:
    """Try `inputs` inputs from number `first` on; return how many ended in what.

    Raises AssertionError, which names the input, at the first one that shows a fault.
    """
    corpus, rng, outcomes = Corpus(), Random(), Counter[str]()
    resident = None
    for index in range(first, first + inputs):
        rng.seed(seed << 40 | index)
        target = rng.choice(TARGETS)
        traced = index % TRACED_EVERY == 0
        if traced:
            tracemalloc.start()
        size = 4096
        try:
            size = target(corpus, rng)
            outcomes[f"{target.__name__}: accepted"] += 1
        except KafkaError as error:
            outcomes[f"{target.__name__}: {error.code.name}"] += 1
        except Exception as problem:
            raise AssertionError(f"input {index} of seed {seed}, {target.__name__}: {problem!r}") from problem
        finally:
            if traced:
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
        if traced:
            limit = (
                FIXED_BYTES
                + BYTES_PER_BYTE * size
                + (3 * MAX_DECOMPRESSED if target in (fuzz_batch, fuzz_compressed) else 0)
            )
            assert peak <= limit, (
                f"input {index} of seed {seed}, {target.__name__}: {peak} bytes allocated, limit {limit}"
            )
        if index == first + inputs // 10:  # by then the codecs are compiled
            resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if resident is not None:
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident
        assert grown < 128 * 1024, f"the process grew by {grown} KiB"
    return outcomes


def main() -> None:
    options = argparse.ArgumentParser(description="Fuzz the wire tier.")
    options.add_argument("--inputs", type=int, default=100_000, help="how many inputs to try")
    options.add_argument("--seed", type=int, default=1, help="which inputs")
    options.add_argument("--first", type=int, default=0, help="number of the first input, to repeat one that failed")
    chosen = options.parse_args()
    started = time.monotonic()
    outcomes = run(chosen.inputs, chosen.seed, chosen.first)
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:>10} {outcome}")
    print(f"{chosen.inputs} inputs of seed {chosen.seed} in {time.monotonic() - started:.0f} s, no fault")


if __name__ == "__main__":
    main()
