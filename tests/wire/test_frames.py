"""Frames and headers: both forms of each, what is no header, and a stream cut anywhere."""

from __future__ import annotations

import struct
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.wire.apis import ApiKey, message_classes
from chronik.wire.codec import MalformedMessage
from chronik.wire.frames import (
    FrameReader,
    encode_request,
    encode_response,
    read_fixed_header,
    read_request_header,
    response_body,
)
from chronik.wire.messages.api_versions import ApiVersionsResponse
from chronik.wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse


class RequestHeaderTests(SynchronousTestCase):
    def test_more_tags_than_anyone_has_are_not_skipped(self) -> None:
        frame = struct.pack(">hhih", 0, 9, 1, -1) + b"\x80\x80\x04" + bytes(100)
        with self.assertRaises(MalformedMessage) as caught:
            read_request_header(frame, flexible=True)
        self.assertIn("65536 tags", caught.exception.message)

    def test_every_api_and_version(self) -> None:
        for key in ApiKey:
            request, _ = message_classes(key)
            for version in range(request.VERSIONS.lowest, request.VERSIONS.highest + 1):
                for client_id in (None, "", "müller"):
                    frame = b"".join(encode_request(request(), version, -5, client_id))
                    self.assertEqual(struct.unpack_from(">i", frame), (len(frame) - 4,))
                    self.assertEqual(read_fixed_header(frame[4:]), (key, version, -5))
                    header = read_request_header(frame[4:], request.is_flexible(version))
                    self.assertEqual(header[:4], (key, version, -5, client_id))
                    self.assertEqual(frame[4 + header.body :], request().encode(version))

    def test_tags_are_skipped(self) -> None:
        head = struct.pack(">hhi", 12, 4, 1) + b"\x00\x01x"
        body = HeartbeatRequest(group_id="g").encode(4)
        for tags in (b"\x00", b"\x01\x05\x02zz", b"\x02\x00\x00\xff\x01\x01z"):
            header = read_request_header(head + tags + body, True)
            self.assertEqual((header.client_id, header.body), ("x", len(head + tags)))

    def test_cut_and_broken(self) -> None:
        frame = struct.pack(">hhi", 12, 4, 1) + b"\x00\x02xy" + b"\x01\x05\x02zz"
        for size in range(8):
            self.assertRaises(MalformedMessage, read_fixed_header, frame[:size])
        for size in range(len(frame)):
            self.assertRaises(MalformedMessage, read_request_header, frame[:size], True)
        for client_id in (b"\xff\xfe", b"\x80\x00", b"\x7f\xff", b"\x00\x01\xff"):
            self.assertRaises(MalformedMessage, read_request_header, frame[:8] + client_id, False)
        for tags in (b"\xff\xff\xff\xff\x0f", b"\x01\x00\x7f", b"\xff\xff\xff\xff\xff\x01"):
            self.assertRaises(MalformedMessage, read_request_header, frame[:12] + tags, True)


class ResponseHeaderTests(SynchronousTestCase):
    def test_every_api_and_version(self) -> None:
        """Flexible versions have a tag section in the header, ApiVersions never (KIP-511)."""
        for key in ApiKey:
            _, response = message_classes(key)
            for version in range(response.VERSIONS.lowest, response.VERSIONS.highest + 1):
                frame = b"".join(encode_response(response(), version, 2**31 - 1))
                expected = 5 if response.is_flexible(version) and key != ApiKey.API_VERSIONS else 4
                self.assertEqual(struct.unpack_from(">i", frame), (len(frame) - 4,))
                self.assertEqual(response_body(frame[4:], response, version), (2**31 - 1, expected))
                self.assertEqual(frame[4 + expected :], response().encode(version))

    def test_tags_are_skipped(self) -> None:
        frame = struct.pack(">i", 9) + b"\x01\x03\x01z"
        self.assertEqual(response_body(frame, HeartbeatResponse, 4), (9, 8))
        self.assertEqual(response_body(frame, ApiVersionsResponse, 4), (9, 4))

    def test_cut(self) -> None:
        frame = struct.pack(">i", 9) + b"\x01\x03\x01z"
        for size in range(len(frame)):
            self.assertRaises(MalformedMessage, response_body, frame[:size], HeartbeatResponse, 4)


class FrameReaderTests(SynchronousTestCase):
    FRAMES = (b"", b"a", b"bc" * 50, b"", b"d" * 300)
    STREAM = b"".join(struct.pack(">i", len(frame)) + frame for frame in FRAMES)

    @settings(max_examples=50, deadline=None, database=None, derandomize=True)
    @given(st.lists(st.integers(0, len(STREAM))))
    def test_cut_anywhere(self, cuts: list[int]) -> None:
        reader, frames = FrameReader(), []
        edges = [0, *sorted(cuts), len(self.STREAM)]
        for start, stop in pairwise(edges):
            frames += reader.feed(self.STREAM[start:stop])
        self.assertEqual(tuple(frames), self.FRAMES)

    def test_sizes_out_of_range(self) -> None:
        for size in (-1, 101, 2**31 - 1, -(2**31)):
            self.assertRaises(MalformedMessage, FrameReader(max_bytes=100).feed, struct.pack(">i", size))
        self.assertEqual(FrameReader(max_bytes=100).feed(struct.pack(">i", 100) + bytes(100)), [bytes(100)])
