"""Numeric classes: ids, comparability, and probes that are refused."""

from typing import Any

import pytest

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.numeric import Family, Probe, comparable, families_of, parse_probe
from tests.support.classes import probe

FLOATS = ["float32", "float32"]


def test_a_class_is_named_by_all_that_a_probe_says() -> None:
    assert len(probe().class_id) == 16
    assert probe().class_id == probe().class_id
    others = [probe("b"), probe(jaxlib="0.10.3"), probe(differs={Family.SORT: "x"})]
    assert len({probe().class_id, *(other.class_id for other in others)}) == 4


def test_a_probe_is_read_as_it_was_written() -> None:
    assert parse_probe(probe().to_json()) == probe()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"families": {**probe().families, "dot": b"short"}}, "5 bytes"),
        ({"families": {**probe().families, "astrology": bytes(32)}}, "astrology"),
        ({"families": {"dot": bytes(32)}}, "missing"),
        ({"families": {}}, "missing"),
        ({"probe_version": 0}, "probe_version"),
        ({"profile": ""}, "profile"),
        ({"profile": "x" * 100}, "profile"),
        ({"jaxlib_version": "0.10\x1b[2J"}, "jaxlib"),
        ({"platform": "CPU!"}, "platform"),
    ],
)
def test_bad_probes_are_refused(change: dict[str, Any], word: str) -> None:
    good = probe()
    fields = {
        "probe_version": good.probe_version,
        "jaxlib_version": good.jaxlib_version,
        "platform": good.platform,
        "profile": good.profile,
        "families": good.families,
    }
    with pytest.raises(PoolError) as refused:
        Probe(**{**fields, **change})
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT
    assert word in refused.value.detail


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"families": []}', b"[" * 100_000])
def test_what_is_no_probe_is_refused(content: bytes) -> None:
    with pytest.raises(PoolError) as refused:
        parse_probe(content)
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("operations", "dtypes", "expected"),
    [
        (["stablehlo.dot_general"], FLOATS, {Family.DOT, Family.DOT_TRANSPOSED}),
        (["stablehlo.rsqrt", "stablehlo.add"], FLOATS, {Family.RSQRT, Family.ELEMENTWISE}),
        (["stablehlo.custom_call"], FLOATS, {Family.LAPACK}),
        (["func.call", "stablehlo.while"], FLOATS, {Family.INTEGER}),
        (["stablehlo.add", "stablehlo.sort"], ["int32"], {Family.INTEGER}),
        # Whole numbers in and out, and fractions between.
        (["stablehlo.convert", "stablehlo.tanh"], ["int32"], {Family.ELEMENTWISE, Family.TRANSCENDENTAL}),
        (["stablehlo.of_tomorrow"], ["int32"], set(Family)),
    ],
)
def test_families_follow_from_the_recorded_operations(
    operations: list[str], dtypes: list[str], expected: set[Family]
) -> None:
    assert families_of(operations, dtypes=dtypes) == expected


def test_machines_compare_where_the_families_used_agree() -> None:
    one, other = probe(), probe(differs={Family.DOT_TRANSPOSED: "x", Family.FFT: "x"})
    assert comparable(one, other, {Family.ELEMENTWISE, Family.REDUCE})
    assert not comparable(one, other, {Family.ELEMENTWISE, Family.FFT})
    assert not comparable(one, probe(jaxlib="0.11.0"), {Family.ELEMENTWISE})
    assert comparable(one, probe("b", jaxlib="0.11.0"), {Family.INTEGER}), "whole numbers everywhere"
