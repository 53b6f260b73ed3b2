"""Framing and messages, as bytes."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.workers.messages import (
    MAX_FRAME_BYTES,
    Configure,
    Done,
    Failed,
    FrameError,
    FrameReader,
    Progress,
    Ready,
    Start,
    frame,
    from_worker,
    packed,
    to_worker,
    unpacked,
)
from tests.workers.worker import Ask, Told


class MessageTests(SynchronousTestCase):
    def test_there_and_back(self):
        body = packed(Ask("x", 1.5, b"\0\xff"))
        for message, parse in (
            (Configure(10), to_worker),
            (Start(7, "act", body), to_worker),
            (Ready(), from_worker),
            (Progress(7, body), from_worker),
            (Done(7, body), from_worker),
            (Failed(7, "OSError", "no"), from_worker),
        ):
            (found,) = FrameReader().feed(frame(message))
            self.assertEqual(parse(found), message)
        self.assertEqual(unpacked(body, Ask), Ask("x", 1.5, b"\0\xff"))

    @given(st.lists(st.binary(max_size=50), max_size=8), st.integers(1, 9))
    def test_frames_in_pieces_of_any_size(self, bodies, piece):
        stream = b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
        reader, found = FrameReader(), []
        for start in range(0, len(stream), piece):
            found += reader.feed(stream[start : start + piece])
        self.assertEqual(found, bodies)

    def test_a_length_that_no_frame_has(self):
        with self.assertRaises(FrameError):
            list(FrameReader().feed((MAX_FRAME_BYTES + 1).to_bytes(4, "big")))

    @given(st.binary(max_size=40))
    def test_what_is_no_message_is_told(self, body):
        for parse in (to_worker, from_worker):
            with contextlib.suppress(FrameError):
                parse(body)

    def test_another_struct_is_told(self):
        self.assertRaises(FrameError, unpacked, packed(Told(1)), Ask)

    def test_what_is_too_large_is_not_sent(self):
        self.assertRaises(FrameError, frame, Start(1, "act", packed(Ask("x", 0, bytes(MAX_FRAME_BYTES)))))
