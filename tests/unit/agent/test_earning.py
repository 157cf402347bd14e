"""Which work earns: the reserve that covers electricity, an hour's net, and refusals with both numbers."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given

from car_agent.core.earning import Economics, OwnerTerms, PoolOffer
from car_agent.core.reasons import ReasonCode
from car_agent.core.tariff import NO_TARIFF, TariffPrice

#: 100 J and 0.36 per kWh: ten micro-units of electricity in a work unit, 3,600 of them an hour.
ECONOMICS = Economics(
    terms=OwnerTerms(),
    offer=PoolOffer(price_micros_per_wu=20, fee_ppm=100_000, currency="EUR"),
    tariff=TariffPrice(360_000),
    has_tariff=True,
    joules_per_wu=100.0,
    wu_per_hour=3_600.0,
)


def offered(price: int | None) -> Economics:
    return replace(ECONOMICS, offer=replace(ECONOMICS.offer, price_micros_per_wu=price))


def test_an_hour_leaves_pay_less_fee_less_electricity() -> None:
    assert ECONOMICS.electricity_micros_per_wu == pytest.approx(10)
    assert ECONOMICS.net_micros_per_hour == pytest.approx((20 * 0.9 - 10) * 3_600)


def test_the_reserve_covers_electricity_the_margin_and_the_fee() -> None:
    assert ECONOMICS.reserve_price_micros_per_wu == 13  # 11 / 0.9, rounded up
    no_margin = replace(ECONOMICS, terms=OwnerTerms(electricity_margin=None))
    assert no_margin.reserve_price_micros_per_wu == 0
    own = replace(ECONOMICS, terms=OwnerTerms(reserve_price_micros_per_wu=50))
    assert own.reserve_price_micros_per_wu == 50
    untold = replace(ECONOMICS, tariff=NO_TARIFF, has_tariff=False)
    assert untold.reserve_price_micros_per_wu == 0
    paid_to_use = replace(ECONOMICS, tariff=TariffPrice(-360_000))
    assert paid_to_use.reserve_price_micros_per_wu == 0


def test_a_wanted_net_raises_the_reserve() -> None:
    wanting = replace(ECONOMICS, terms=OwnerTerms(min_net_per_hour=0.036))
    assert wanting.reserve_price_micros_per_wu == 23  # (10 + 36,000 / 3,600) / 0.9, rounded up


@given(
    price=st.integers(0, 10**6),
    fee_ppm=st.integers(0, 999_999),
    tariff=st.integers(-(10**6), 10**7),
    joules=st.floats(0.01, 10**6),
    speed=st.floats(0.01, 10**7),
    least=st.none() | st.floats(0, 100),
)
def test_work_that_is_wanted_never_loses_and_leaves_what_was_asked_for(
    *, price: int, fee_ppm: int, tariff: int, joules: float, speed: float, least: float | None
) -> None:
    economics = Economics(
        terms=OwnerTerms(min_net_per_hour=least),
        offer=PoolOffer(price_micros_per_wu=price, fee_ppm=fee_ppm, currency="EUR"),
        tariff=TariffPrice(tariff),
        has_tariff=True,
        joules_per_wu=joules,
        wu_per_hour=speed,
    )
    net = economics.net_micros_per_hour
    assert net is not None
    refusal = economics.refusal()
    tolerance = 1e-6 * (1 + abs(net) + price * speed)
    if refusal is None:
        assert net >= -tolerance
        assert net >= (least or 0) * 1_000_000 - tolerance
        assert not economics.loses_at(price) or net <= tolerance
    else:
        assert refusal.message.count(".") >= 1
        assert refusal.remedy
    assert economics.loses_at(economics.reserve_price_micros_per_wu) == "" or joules * tariff > 10**15


@pytest.mark.parametrize(
    ("economics", "code", "words"),
    [
        (offered(13), None, ()),
        (offered(None), None, ()),
        (
            offered(12),
            ReasonCode.PRICE_BELOW_RESERVE,
            ("pays 0.000012 EUR per work unit", "works from 0.000013", "electricity is 0.00001 of it"),
        ),
        (
            replace(offered(20), terms=OwnerTerms(min_net_per_hour=0.05)),
            ReasonCode.NET_BELOW_MINIMUM,
            ("would leave 0.0288 EUR", "you ask for 0.05"),
        ),
        (
            replace(offered(5), terms=OwnerTerms(min_net_per_hour=0.05)),
            ReasonCode.NET_BELOW_MINIMUM,
            ("would leave -0.0198 EUR",),
        ),
        (
            replace(offered(20), terms=OwnerTerms(reserve_price_micros_per_wu=1_000_000)),
            ReasonCode.PRICE_BELOW_RESERVE,
            ("works from 1.00",),
        ),
        (
            replace(offered(20), tariff=TariffPrice(None, "It is 3 h old.")),
            ReasonCode.TARIFF_UNKNOWN,
            ("It is 3 h old.",),
        ),
        (replace(offered(20), tariff=NO_TARIFF, has_tariff=False), None, ()),
        (
            replace(offered(20), tariff=NO_TARIFF, has_tariff=False, terms=OwnerTerms(min_net_per_hour=0.05)),
            ReasonCode.TARIFF_UNKNOWN,
            ("No tariff is set",),
        ),
    ],
)
def test_a_refusal_has_its_code_and_says_both_numbers(
    economics: Economics, code: ReasonCode | None, words: tuple[str, ...]
) -> None:
    refusal = economics.refusal()

    assert (None if refusal is None else refusal.code) is code
    for word in words:
        assert refusal is not None
        assert word in refusal.message


def test_a_lease_at_a_price_that_would_lose_money_is_told_with_both_numbers() -> None:
    assert ECONOMICS.loses_at(12) == ""
    assert ECONOMICS.loses_at(11) == (
        "it pays 0.00001 EUR per work unit after the fee, and its electricity costs 0.00001"
    )
    assert replace(ECONOMICS, terms=OwnerTerms(electricity_margin=None)).loses_at(0) == ""
    assert replace(ECONOMICS, tariff=NO_TARIFF).loses_at(0) == ""
