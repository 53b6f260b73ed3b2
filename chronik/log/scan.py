"""Reading a log file through, batch by batch: headers, or whole batches."""

from __future__ import annotations

from collections.abc import Iterator

from chronik.errors import ErrorCode, KafkaError
from chronik.interfaces import IFile
from chronik.wire.records import HEADER_BYTES, BatchHeader, read_header, verify

SCAN_BYTES = 1 << 20


def scan_batches(
    file: IFile, position: int, end: int, check_crc: bool = False, chunk_bytes: int = SCAN_BYTES
) -> Iterator[tuple[int, BatchHeader]]:
    """(position, header) of each batch between two positions of a file, read in large pieces.

    Raises KafkaError at the first that isn't a whole batch or, with `check_crc`, doesn't match its CRC.
    """
    chunk, start = b"", position
    while position < end:
        at = position - start
        if at < 0 or len(chunk) - at < HEADER_BYTES:
            start, at = position, 0
            chunk = file.pread(min(chunk_bytes, end - position), position)
        header = read_header(chunk, at)
        size = header.batch_length + 12
        if position + size > end:
            raise KafkaError(
                ErrorCode.CORRUPT_MESSAGE,
                f"the batch at position {position} has {size} bytes, {end - position} are there",
            )
        if check_crc:
            if len(chunk) - at < size:
                start, at = position, 0
                chunk = file.pread(min(max(size, chunk_bytes), end - position), position)
            verify(memoryview(chunk)[at : at + size])
        yield position, header
        position += size


def read_batches(file: IFile, position: int, end: int) -> Iterator[tuple[int, BatchHeader, memoryview]]:
    """(position, header, bytes) of each batch between two positions of a file, its CRC verified, read in large pieces.

    Raises KafkaError at the first that isn't whole or doesn't match its CRC.
    """
    chunk, start = memoryview(b""), position
    while position < end:
        at = position - start
        if len(chunk) - at < HEADER_BYTES or len(chunk) - at < read_header(chunk, at).size:
            size = SCAN_BYTES if len(chunk) - at < HEADER_BYTES else max(SCAN_BYTES, read_header(chunk, at).size)
            start, at = position, 0
            chunk = memoryview(file.pread(min(size, end - position), position))
            if len(chunk) == SCAN_BYTES < read_header(chunk).size:
                continue  # a batch larger than a piece is read again, as one
        header = verify(chunk, at)
        yield position, header, chunk[at : at + header.size]
        position += header.size
