"""What is advertised is what is served, version by version: derived from the code, and asked over a real socket."""

from __future__ import annotations

import socket
import struct

from twisted.trial.unittest import SynchronousTestCase

from chronik.features import SHARE_VERSION
from chronik.testing import Chronik
from chronik.wire.apis import ApiKey, message_classes
from chronik.wire.codec import Request
from chronik.wire.frames import encode_request, response_body
from chronik.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from chronik.wire.messages.metadata import MetadataRequest
from chronik.wire.messages.produce import ProduceRequest
from chronik.wire.messages.share_fetch import ShareFetchRequest, ShareFetchResponse
from chronik.wire.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest

_REFUSED_ALTHOUGH_ADVERTISED = {(ApiKey.PRODUCE, version) for version in (0, 1, 2)}
"""Old librdkafka refuses to compress unless it sees them (KAFKA-18659)."""


SHARE_APIS = frozenset(key for key in ApiKey if "SHARE" in key.name)


class ServedTests(SynchronousTestCase):
    shares = False

    def setUp(self) -> None:
        self.node = Chronik(group_share_enable=self.shares).start()
        self.addCleanup(self.node.stop)

    def ask(self, request: Request, version: int) -> bytes | None:
        """The answer's frame without its size; None where the node closes the connection instead."""
        with socket.create_connection(("127.0.0.1", self.node.port), 10) as connection:
            connection.sendall(b"".join(encode_request(request, version, 7, "served")))
            size = connection.recv(4, socket.MSG_WAITALL)
            if not size:
                return None
            return connection.recv(struct.unpack(">i", size)[0], socket.MSG_WAITALL)

    def advertised(self) -> dict[ApiKey, range]:
        frame = self.ask(ApiVersionsRequest(client_software_name="t", client_software_version="1"), 4)
        assert frame is not None
        answer, _ = ApiVersionsResponse.decode(frame, 4, response_body(frame, ApiVersionsResponse, 4)[1])
        return {ApiKey(each.api_key): range(each.min_version, each.max_version + 1) for each in answer.api_keys}

    def test_each_version_of_each_api(self) -> None:
        advertised = self.advertised()
        for key in ApiKey:
            request_class, response_class = message_classes(key)
            for version in range(request_class.VERSIONS.lowest, request_class.VERSIONS.highest + 1):
                with self.subTest(api=key.name, version=version):
                    request = request_class()
                    if isinstance(request, ProduceRequest):
                        request.acks = 1
                    if isinstance(request, MetadataRequest):
                        request.topics = []
                    frame = self.ask(request, version)
                    if version not in advertised.get(key, ()):
                        self.assertTrue(frame is None or key == ApiKey.API_VERSIONS or key in SHARE_APIS)
                        continue
                    assert frame is not None, "advertised, and closed"
                    correlation, position = response_body(frame, response_class, version)
                    answer, end = response_class.decode(frame, version, position)
                    self.assertEqual((correlation, end), (7, len(frame)))
                    refused = getattr(answer, "error_code", 0) == 35  # UNSUPPORTED_VERSION
                    self.assertFalse(refused and (key, version) not in _REFUSED_ALTHOUGH_ADVERTISED)

    def test_share_groups_while_they_are_asked_for(self) -> None:
        """By option, or by level 1 of their feature; what isn't advertised is refused."""
        self.assertEqual(SHARE_APIS & self.advertised().keys(), SHARE_APIS if self.shares else set())
        self.assertEqual(len(SHARE_APIS), 12)
        for level in (1, 0):
            update = FeatureUpdateKey(feature=SHARE_VERSION, max_version_level=level, upgrade_type=2 - level)
            self.ask(UpdateFeaturesRequest(feature_updates=[update]), 2)
            served = self.shares or level == 1
            self.assertEqual(SHARE_APIS & self.advertised().keys(), SHARE_APIS if served else set())
            data = self.ask(ShareFetchRequest(group_id="g", member_id="x"), 1)
            assert data is not None
            answer, _ = ShareFetchResponse.decode(data, 1, response_body(data, ShareFetchResponse, 1)[1])
            self.assertEqual(answer.error_code, 42 if served else 35)

    def test_the_code_says_the_same(self) -> None:
        node = self.node._node
        assert node is not None
        table = {key: range(low, high + 1) for key, low, high in node.table.ranges()}
        self.assertEqual(table, self.advertised())
        self.assertEqual(set(table), set(node.table.handlers) - (set() if self.shares else SHARE_APIS))


class ServedWithShareGroupsTests(ServedTests):
    """The same, with share groups."""

    shares = True
