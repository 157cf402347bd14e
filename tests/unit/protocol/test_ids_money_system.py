"""Names and amounts: one spelling per id, nothing lost in any rounding."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_protocol import ids, money
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.system import SystemClock, SystemIds
from tests.support.clock import START_US, ManualClock
from tests.support.ids import SeededIds

_ENTITIES: list[tuple[Callable[[bytes], str], Callable[[str], str]]] = [
    (ids.owner_id, ids.parse_owner_id),
    (ids.vehicle_id, ids.parse_vehicle_id),
    (ids.buyer_id, ids.parse_buyer_id),
    (ids.operator_id, ids.parse_operator_id),
]


@given(st.binary(min_size=16, max_size=16), st.integers(0, 3))
def test_entity_ids_have_one_spelling_and_one_kind(random_bytes: bytes, kind: int) -> None:
    make, parse = _ENTITIES[kind]
    text = make(random_bytes)
    assert parse(text) == text
    assert len(text.split("_")[1]) == 26
    for broken in (text.upper(), text + "a", text[:-1], text[:-1] + "=", " " + text, text.replace("_", "-")):
        with pytest.raises(PoolError) as raised:
            parse(broken)
        assert raised.value.code is ErrorCode.INVALID_ARGUMENT
    with pytest.raises(PoolError):
        _ENTITIES[(kind + 1) % 4][1](text)


def test_spare_bits_of_base32_do_not_make_a_second_spelling() -> None:
    text = ids.owner_id(bytes(16))
    with pytest.raises(PoolError):
        ids.parse_owner_id(text[:-1] + "b")
    with pytest.raises(PoolError):
        ids.owner_id(b"short")
    with pytest.raises(PoolError):
        ids.parse_owner_id("owner_" + "1" * 26)


@given(st.integers(1, ids.ROW_ID_MAX))
def test_row_ids_read_as_they_are_written(number: int) -> None:
    assert ids.parse_job_id(ids.job_id_text(ids.JobId(number))) == number
    assert ids.parse_lease_id(ids.lease_id_text(ids.LeaseId(number))) == number


@pytest.mark.parametrize(
    "text", ["", "job_", "job_0", "job_01", "job_-1", "job_+1", "job_1 ", "lease_1", "12", "job_٣"]
)
def test_row_ids_are_parsed_strictly(text: str) -> None:
    with pytest.raises(PoolError):
        ids.parse_job_id(text)
    with pytest.raises(PoolError):
        ids.parse_job_id(f"job_{2**63}")
    with pytest.raises(PoolError):
        ids.job_id_text(ids.JobId(0))


@pytest.mark.parametrize(
    "parse", [ids.parse_sha256_hex, ids.parse_program_id, ids.parse_blob_id, ids.parse_key_id]
)
def test_digests_and_key_ids_are_lower_case_hex_of_one_length(parse: Callable[[str], Any]) -> None:
    length = 16 if parse is ids.parse_key_id else 64
    assert parse("0f" * (length // 2))
    for broken in (
        "",
        "0" * (length - 1),
        "0" * (length + 1),
        "0F" * (length // 2),
        "g" * length,
        "0" * length + "\n",
    ):
        with pytest.raises(PoolError) as raised:
            parse(broken)
        assert len(raised.value.detail) < 200


AMOUNTS = st.integers(0, 10**15)


@given(st.integers(0, 10**12), st.integers(0, 10**9))
def test_the_price_of_work_is_never_less_than_exact_and_never_a_micro_more(work_uwu: int, price: int) -> None:
    micros = money.work_price_micros(work_uwu, price)
    assert 0 <= micros * money.UWU_PER_WU - work_uwu * price < money.UWU_PER_WU


@given(AMOUNTS, st.integers(0, money.PPM))
def test_fee_and_rest_are_the_whole(gross: int, fee_ppm: int) -> None:
    fee = money.fee_floor(gross, fee_ppm)
    assert 0 <= fee <= gross
    assert 0 <= gross * fee_ppm - fee * money.PPM < money.PPM


@given(AMOUNTS, st.lists(st.integers(0, 10**6), min_size=1, max_size=20).filter(any))
def test_a_split_loses_nothing_and_shorts_nobody_by_a_micro(total: int, weights: list[int]) -> None:
    parts = money.split_remainder_to_last(total, weights)
    assert sum(parts) == total
    assert len(parts) == len(weights)
    for part, weight in zip(parts, weights, strict=True):
        assert part * sum(weights) > total * weight - sum(weights)


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**6))
def test_division_rounds_the_way_its_name_says(numerator: int, denominator: int) -> None:
    low, high = money.div_floor(numerator, denominator), money.ceil_div(numerator, denominator)
    assert low * denominator <= numerator <= high * denominator
    assert high - low in (0, 1)


def test_amounts_out_of_bounds_are_refused() -> None:
    refused: list[Callable[[], Any]] = [
        lambda: money.work_price_micros(-1, 1),
        lambda: money.work_price_micros(2**62, 2**62),
        lambda: money.fee_floor(-1, 1),
        lambda: money.fee_floor(1, money.PPM + 1),
        lambda: money.ceil_div(1, 0),
        lambda: money.div_floor(1, -1),
        lambda: money.split_remainder_to_last(1, []),
        lambda: money.split_remainder_to_last(1, [0, 0]),
        lambda: money.split_remainder_to_last(1, [2, -1]),
        lambda: money.require_amount(2**63),
        lambda: money.micros_to_cents_floor(-1),
        lambda: money.format_micros(1, decimals=7),
    ]
    for call in refused:
        with pytest.raises(PoolError) as raised:
            call()
        assert raised.value.code is ErrorCode.INVALID_ARGUMENT


def test_amounts_read_well() -> None:
    assert money.format_micros(1_234_567) == "1.234567"
    assert money.format_micros(-1_234_567, decimals=2) == "-1.23"
    assert money.format_micros(-1, decimals=2) == "0.00"
    assert money.format_micros(999_999, decimals=0) == "0"
    assert money.micros_to_cents_floor(19_999) == 1
    assert money.format_wu(1_500_000) == "1.500000"


def test_the_systems_clock_and_ids_are_fresh() -> None:
    clock, source = SystemClock(), SystemIds()
    first, second = clock.monotonic_ns(), clock.monotonic_ns()
    assert second >= first
    assert clock.now_us() > START_US - 2 * 365 * 24 * 3_600_000_000
    made = {source.new_owner_id(), source.new_owner_id()}
    assert len(made) == 2
    assert all(ids.parse_owner_id(text) for text in made)
    assert ids.parse_vehicle_id(source.new_vehicle_id())
    assert ids.parse_buyer_id(source.new_buyer_id())
    assert ids.parse_operator_id(source.new_operator_id())
    assert source.nonce() != source.nonce()


def test_support_clock_and_ids_repeat() -> None:
    clock = ManualClock()
    clock.advance(seconds=1.5)
    clock.step_wall(us=-500_000)
    assert (clock.now_us() - START_US, clock.monotonic_ns()) == (1_000_000, 1_500_000_000)
    with pytest.raises(ValueError, match="go back"):
        clock.advance(us=-1)
    assert SeededIds(1).new_vehicle_id() == SeededIds(1).new_vehicle_id() != SeededIds(2).new_vehicle_id()
