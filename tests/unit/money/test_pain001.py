"""The SEPA file: its sums, its bytes, its schema, and everything that must not get into it."""

import hashlib
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_server.core.payouts.model import PayoutRow, PayoutRun, PayoutState, RailName
from pool_server.core.payouts.references import end_to_end_reference
from pool_server.rails.choice import make_rails
from pool_server.rails.pain001 import REMITTANCE_CHARACTERS_MAX, Debtor, Pain001Rail, remittance, validate
from tests.support.bank import read_order

POOL_ID = "pool_test"
#: Wednesday, 25 November 2026, 12:00 UTC.
EXPORTED_US = 1_795_608_000_000_000
DEBTOR = Debtor(name="Chargepool GmbH", iban="DE89370400440532013000")
RUN = PayoutRun(
    payout_id=3,
    state=PayoutState.EXPORTED,
    currency="EUR",
    total_micros=0,
    row_count=0,
    idempotency_key="k",
    planned_by="operator_a",
    planned_at_us=1,
    ended_at_us=EXPORTED_US,
    rail=RailName.PAIN001.value,
)


def row(number: int, *, amount_micros: int = 1_230_000, **changes: object) -> PayoutRow:
    made = PayoutRow(
        owner_id=f"owner_{number}",
        holder_name="Ada Lovelace",
        iban="DE89370400440532013000",
        amount_micros=amount_micros,
        reason="",
        reference=end_to_end_reference(POOL_ID, 3, number),
        town="Koeln",
        country="DE",
        bic="COBADEFFXXX",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def rail(*, block_rows_max: int = 2, debtor: Debtor = DEBTOR) -> Pain001Rail:
    return Pain001Rail(pool_id=POOL_ID, debtor=debtor, block_rows_max=block_rows_max)


def test_the_file_says_what_is_paid_in_numbered_blocks() -> None:
    rows = [row(4, amount_micros=10_000), row(1), row(2), row(3, reason="IBAN_INVALID")]

    file = rail().render(RUN, rows)
    order = read_order(file.content)

    assert file.name == "payout_3.pain.001.xml"
    assert file.sha256_hex == hashlib.sha256(file.content).hexdigest()
    assert (order.count, order.control_cents, order.execution_date) == (3, 247, "2026-11-26")
    assert order.block_sums == {
        f"{order.message}-B1-2": (2, 246),
        f"{order.message}-B4-4": (1, 1),
    }
    assert [payment.reference.rsplit("-", 1)[1] for payment in order.payments] == ["1", "2", "4"]
    assert (
        b"NOTPROVIDED</Id></Othr></FinInstnId></DbtrAgt>" in file.content
    )  # only where we do not know our own BIC
    assert file.content.count(b"NOTPROVIDED") == len(order.block_sums)


def test_the_same_run_gives_the_same_bytes_in_any_order_of_rows() -> None:
    rows = [row(number) for number in range(1, 6)]

    assert rail().render(RUN, rows) == rail().render(RUN, rows[::-1])


SEPA_TEXT = st.text("ABCdef/-?:().,'+ ", min_size=1, max_size=60).map(
    lambda text: "A" + " ".join(text.split())
)


@settings(max_examples=30)
@given(st.lists(st.tuples(SEPA_TEXT, st.integers(1, 10**11)), min_size=1, max_size=4))
def test_whatever_enrolment_lets_through_the_schema_takes(paid: list[tuple[str, int]]) -> None:
    rows = [
        row(
            number,
            amount_micros=cents * 10_000 % 999_999_999_990_001 or 10_000,
            holder_name=name,
            town=name[:35].strip(),
        )
        for number, (name, cents) in enumerate(paid, start=1)
    ]

    order = read_order(rail().render(RUN, rows).content)

    assert order.control_cents * 10_000 == sum(r.amount_micros for r in rows)
    assert [payment.name for payment in order.payments] == [r.holder_name for r in rows]


@pytest.mark.parametrize(
    "changes",
    [
        {"holder_name": "A" * 71},
        {"holder_name": "Ada <Lovelace>"},
        {"holder_name": "Łukasz"},
        {"iban": "DE00370400440532013000"},
        {"town": ""},
        {"country": "XX"},
        {"bic": "NOPE"},
        {"reference": "CP-" + "1" * 40 + "-1"},
    ],
)
def test_a_row_that_should_have_been_left_out_stops_the_export(changes: dict[str, Any]) -> None:
    with pytest.raises(InvariantError):
        rail().render(RUN, [row(1, **changes)])


@pytest.mark.parametrize("amount_micros", [0, 9_999, 10_001, 1_000_000_000_000_000])
def test_an_amount_is_a_cent_to_a_cent_under_a_thousand_million(amount_micros: int) -> None:
    with pytest.raises(InvariantError):
        rail().render(RUN, [row(1, amount_micros=amount_micros)])
    assert rail().render(RUN, [row(1, amount_micros=999_999_999_990_000)]).content


def test_the_schema_is_asked_and_refuses_what_it_does_not_know() -> None:
    content = rail().render(RUN, [row(1)]).content

    for old, new in (
        (b"<Cd>SEPA</Cd>", b"<Cd>SEPAS</Cd>"),
        (b"<TwnNm>Koeln", b"<TwnNm>"),
        (b"<NbOfTxs>1", b"<NbOfTxs>x"),
    ):
        assert old in content
        with pytest.raises(InvariantError, match="the schema refuses"):
            validate(content.replace(old, new, 1))


def test_a_run_of_nobody_or_in_another_currency_has_no_sepa_file() -> None:
    with pytest.raises(PoolError) as refused:
        rail().render(RUN, [row(1, reason="IBAN_INVALID")])
    assert refused.value.code is ErrorCode.PAYOUT_STATE
    with pytest.raises(PoolError) as refused:
        rail().render(replace(RUN, currency="USD"), [row(1)])
    assert refused.value.context == {"field": "rail"}


def test_the_remittance_is_short_of_its_limit_whatever_the_numbers() -> None:
    long = end_to_end_reference(POOL_ID, 10**9, 999_999)

    assert len(remittance(replace(RUN, payout_id=10**9), row(1, reference=long))) <= REMITTANCE_CHARACTERS_MAX


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "payout_debtor_name"),
        ({"name": "Bäcker"}, "payout_debtor_name"),
        ({"iban": "DE00"}, "payout_debtor_iban"),
        ({"iban": "AE070331234567890123456"}, "payout_debtor_iban"),
        ({"bic": "X"}, "payout_debtor_bic"),
        ({"town": "Koeln"}, "payout_debtor_town"),
        ({"town": "Köln", "country": "DE"}, "payout_debtor_town"),
        ({"town": "Koeln", "country": "XX"}, "payout_debtor_country"),
    ],
)
def test_the_pools_own_account_is_checked_when_the_server_starts(changes: dict[str, str], field: str) -> None:
    with pytest.raises(PoolError) as refused:
        replace(DEBTOR, **changes)
    assert refused.value.context == {"field": field}


def test_sepa_is_the_default_where_the_account_is_configured_and_the_money_is_euro() -> None:
    own = {"debtor_bic": "", "debtor_town": "Koeln", "debtor_country": "DE"}
    named = {"debtor_name": "Pool", "debtor_iban": "de89 3704 0044 0532 0130 00"} | own
    nothing = dict.fromkeys(named, "")

    assert make_rails(pool_id=POOL_ID, currency="EUR", **named).choose("") is RailName.PAIN001
    assert make_rails(pool_id=POOL_ID, currency="USD", **named).choose("") is RailName.CSV
    rails = make_rails(pool_id=POOL_ID, currency="EUR", **nothing)
    assert rails.choose("") is RailName.CSV
    for name in ("pain001", "cheque"):
        with pytest.raises(PoolError) as refused:
            rails.choose(name)
        assert refused.value.context == {"field": "rail"}
    with pytest.raises(PoolError):
        make_rails(pool_id=POOL_ID, currency="EUR", **(nothing | {"debtor_iban": named["debtor_iban"]}))
