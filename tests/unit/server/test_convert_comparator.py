"""Comparators from the wire: every kind, rules of single outputs, and what is refused by name."""

from __future__ import annotations

import pytest

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.ulps import ULPS_MAX
from pool_protocol.v1 import common_pb2
from pool_server.core.comparison import Comparator, ComparatorKind, Rule
from pool_server.rpc.convert_market import comparator
from pool_server.store.job_repository import rules_from_json, rules_to_json

ULP = common_pb2.COMPARATOR_KIND_ULP
SET = common_pb2.COMPARATOR_KIND_SET
CLOSE = common_pb2.COMPARATOR_KIND_CLOSE


def test_each_kind_is_read() -> None:
    assert comparator(common_pb2.Comparator(), outputs=[]) == Comparator()
    assert comparator(common_pb2.Comparator(kind=ULP, ulps=4), outputs=[]) == Comparator(
        kind=ComparatorKind.ULP, ulps=4
    )
    assert comparator(common_pb2.Comparator(kind=SET), outputs=[]) == Comparator(kind=ComparatorKind.SET)


def test_outputs_have_rules_of_their_own() -> None:
    message = common_pb2.Comparator(
        outputs=[
            common_pb2.OutputComparator(name="loss", kind=CLOSE, rtol=1e-3),
            common_pb2.OutputComparator(name="order", kind=SET),
        ]
    )
    assert comparator(message, outputs=["loss", "order", "other"]) == Comparator(
        outputs={
            "loss": Rule(kind=ComparatorKind.CLOSE, rtol=1e-3),
            "order": Rule(kind=ComparatorKind.SET),
        }
    )


@pytest.mark.parametrize(
    ("message", "words"),
    [
        pytest.param(
            common_pb2.Comparator(outputs=[common_pb2.OutputComparator(name="los", kind=SET)]),
            "['los'], its outputs are ['loss', 'order']",
            id="an output that is not there",
        ),
        pytest.param(
            common_pb2.Comparator(outputs=[common_pb2.OutputComparator(name="loss", kind=SET)] * 2),
            "two rules",
            id="two rules",
        ),
        pytest.param(common_pb2.Comparator(kind=ULP), "1 to", id="no ulps"),
        pytest.param(common_pb2.Comparator(kind=ULP, ulps=ULPS_MAX + 1), "ulps", id="too many ulps"),
        pytest.param(common_pb2.Comparator(kind=99), "99", id="an unknown kind"),  # type: ignore[arg-type]
        pytest.param(
            common_pb2.Comparator(outputs=[common_pb2.OutputComparator(name="loss", kind=CLOSE, rtol=-1)]),
            "rtol",
            id="a tolerance of an output",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(message: common_pb2.Comparator, words: str) -> None:
    with pytest.raises(PoolError) as refusal:
        comparator(message, outputs=["loss", "order"])
    assert refusal.value.code is ErrorCode.INVALID_ARGUMENT
    assert words in refusal.value.detail


def test_rules_of_outputs_survive_the_store() -> None:
    rules = {"a": Rule(kind=ComparatorKind.CLOSE, rtol=0.1, atol=1e-300), "b": Rule(kind=ComparatorKind.SET)}
    assert rules_from_json(rules_to_json(rules)) == rules
    assert rules_from_json("{}") == {}
