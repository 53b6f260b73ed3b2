"""What may be set as a client quota, and that it is there after a restart."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chronik.controller.commands import AlterClientQuotas, QuotaAlteration
from chronik.controller.image import MetadataImage
from chronik.errors import ErrorCode
from chronik.listeners.handlers.alter_client_quotas import AlterClientQuotasHandler
from chronik.listeners.handlers.describe_client_quotas import DescribeClientQuotasHandler
from chronik.listeners.handlers.proposing import PART
from chronik.wire.messages import alter_client_quotas as alter
from chronik.wire.messages import describe_client_quotas as describe
from tests.listeners.handlers.serving import Serving


class QuotaTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.serving = Serving()

    def alter(
        self, entity: dict[str, str | None], validate_only: bool = False, **values: float | None
    ) -> tuple[int, str | None]:
        entry = alter.EntryData(
            entity=[alter.EntityData(entity_type=kind, entity_name=name) for kind, name in entity.items()],
            ops=[alter.OpData(key=key, value=value or 0.0, remove=value is None) for key, value in values.items()],
        )
        handler = AlterClientQuotasHandler(self.serving.proposing)
        request = alter.AlterClientQuotasRequest(entries=[entry], validate_only=validate_only)
        (result,) = self.serving.ask(handler, request).entries
        self.assertEqual({each.entity_type: each.entity_name for each in result.entity}, entity)
        return result.error_code, result.error_message

    def describe(self, *components: tuple[str, int, str | None], strict: bool = False) -> Any:
        handler = DescribeClientQuotasHandler(self.serving.image.quotas)
        filters = [
            describe.ComponentData(entity_type=kind, match_type=how, match=name) for kind, how, name in components
        ]
        answer = self.serving.ask(handler, describe.DescribeClientQuotasRequest(components=filters, strict=strict))
        if answer.error_code:
            return answer.error_code
        return [
            (
                {each.entity_type: each.entity_name for each in entry.entity},
                {each.key: each.value for each in entry.values},
            )
            for entry in answer.entries
        ]

    def test_what_is_set_is_described_and_survives(self) -> None:
        entity: dict[str, str | None] = {"user": "u", "client-id": None}
        self.assertEqual(self.alter(entity, producer_byte_rate=10, request_percentage=0.5)[0], 0)
        self.assertEqual(self.alter({"client-id": "c"}, consumer_byte_rate=5)[0], 0)
        self.assertEqual(
            self.describe(),
            [
                ({"client-id": "c"}, {"consumer_byte_rate": 5}),
                ({"client-id": None, "user": "u"}, {"producer_byte_rate": 10, "request_percentage": 0.5}),
            ],
        )
        image = MetadataImage(self.serving.image.cluster_id, 0)
        image.restore(1, self.serving.image.snapshot())
        self.assertEqual(image.quotas(), self.serving.image.quotas())
        self.alter({"client-id": None, "user": "u"}, producer_byte_rate=None)
        self.assertEqual(self.describe()[1][1], {"request_percentage": 0.5})
        self.alter({"client-id": "c"}, consumer_byte_rate=None)
        self.assertEqual(len(self.describe()), 1)
        self.assertEqual(self.alter({"client-id": "c"}, consumer_byte_rate=None)[0], 0)  # there is none

    def test_many_are_decided_in_parts_those_of_one_entity_together(self) -> None:
        users = [f"u{number}" for number in range(100)]
        for extra in range(1, 2 * PART + 3):
            asked = [*users, *["u7"] * extra]
            entries = [
                alter.EntryData(
                    entity=[alter.EntityData(entity_type="user", entity_name=name)],
                    ops=[alter.OpData(key="producer_byte_rate", value=1.0)],
                )
                for name in asked
            ]
            handler = AlterClientQuotasHandler(self.serving.proposing)
            results = self.serving.ask(handler, alter.AlterClientQuotasRequest(entries=entries)).entries
            self.assertEqual([each.entity[0].entity_name for each in results], asked)
            refused = [bool(each.error_code) for each in results]
            self.assertEqual(refused, [name == "u7" for name in asked])

    def test_a_dry_run(self) -> None:
        self.assertEqual(self.alter({"user": "u"}, validate_only=True, producer_byte_rate=1)[0], 0)
        self.assertEqual(self.describe(), [])

    def test_filters(self) -> None:
        entities: tuple[dict[str, str | None], ...] = (
            {"user": "u"}, {"user": None}, {"user": "u", "client-id": "c"}, {"client-id": "c"},
        )  # fmt: skip
        for entity in entities:
            self.alter(entity, producer_byte_rate=1)
        self.assertEqual(len(self.describe(("user", 0, "u"))), 2)
        self.assertEqual([entity for entity, _ in self.describe(("user", 0, "u"), strict=True)], [{"user": "u"}])
        self.assertEqual([entity for entity, _ in self.describe(("user", 1, None))], [{"user": None}])
        self.assertEqual(len(self.describe(("user", 2, None))), 3)
        self.assertEqual(len(self.describe(("user", 2, None), ("client-id", 2, None))), 1)
        self.assertEqual(self.describe(strict=True), [])
        self.assertEqual(self.describe(("ip", 2, None)), [])
        bad_ones: list[list[tuple[str, int, str | None]]] = [
            [("", 0, "x")], [("user", 0, None)], [("user", 1, "x")], [("user", 2, "x")], [("user", 3, None)],
            [("user", 2, None)] * 2, [("ip", 2, None), ("user", 2, None)],
        ]  # fmt: skip
        for bad in bad_ones:
            self.assertEqual(self.describe(*bad), ErrorCode.INVALID_REQUEST, bad)
        self.assertEqual(self.describe(("group", 0, "x")), ErrorCode.UNSUPPORTED_VERSION)

    def test_what_cannot_be_set(self) -> None:
        refused: list[tuple[dict[str, str | None], dict[str, float], str]] = [
            ({}, {"producer_byte_rate": 1}, "none is named"),
            ({"group": "g"}, {"producer_byte_rate": 1}, "kind 'group'"),
            ({"user": ""}, {"producer_byte_rate": 1}, "1 to 1000 characters"),
            ({"ip": "127.0.0.1", "user": "u"}, {"connection_creation_rate": 1}, "cannot be combined"),
            ({"ip": "localhost"}, {"connection_creation_rate": 1}, "no IP address"),
            ({"ip": "127.0.0.1"}, {"connection_creation_rate": 2**31}, "at most"),
            ({"ip": None}, {"connection_creation_rate": 0.5}, "whole number"),
            ({"ip": None}, {"controller_mutation_rate": 1}, "for an address"),
            ({"ip": "127.0.0.1"}, {"producer_byte_rate": 1}, "no quota 'producer_byte_rate' for an address"),
            ({"user": "u"}, {"controller_mutation_rate": 0}, "greater than 0"),
            ({"user": "u"}, {"connection_creation_rate": 1}, "no quota"),
            ({"user": "u"}, {"any": 1}, "no quota 'any'"),
            ({"user": "u"}, {"producer_byte_rate": 0}, "greater than 0"),
            ({"user": "u"}, {"producer_byte_rate": -1}, "greater than 0"),
            ({"user": "u"}, {"producer_byte_rate": float("nan")}, "greater than 0"),
            ({"user": "u"}, {"request_percentage": float("inf")}, "greater than 0"),
            ({"user": "u"}, {"producer_byte_rate": 1.5}, "whole number"),
            ({"user": "u"}, {"producer_byte_rate": 1e30}, "at most"),
        ]
        for entity, values, words in refused:
            code, message = self.alter(entity, **values)
            self.assertEqual(code, ErrorCode.INVALID_REQUEST)
            self.assertIn(words, message or "")
        self.assertEqual(self.serving.image.quotas(), {})

    def test_an_entity_twice(self) -> None:
        changes = (("producer_byte_rate", 1.0),)
        entities = ((("user", "u"), ("client-id", "c")), (("client-id", "c"), ("user", "u")), (("user", "v"),))
        errors = self.serving.cluster.do(AlterClientQuotas(tuple(QuotaAlteration(each, changes) for each in entities)))
        self.assertEqual([error and error.code for error in errors], [ErrorCode.INVALID_REQUEST] * 2 + [None])
        again = QuotaAlteration((("user", "u"),), (*changes, *changes))
        (error,) = self.serving.cluster.do(AlterClientQuotas((again,)))
        self.assertIn("twice", error.message)
