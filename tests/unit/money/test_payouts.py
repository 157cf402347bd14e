"""Whom a bank can pay, who is in a run, which state follows which, and the file's bytes."""

import csv
import hashlib
import io
import itertools
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.core.payouts.details import check_details, holder_name_problem, iban_problem
from pool_server.core.payouts.model import (
    TRANSITIONS,
    LeftOut,
    PayoutDetails,
    PayoutRow,
    PayoutRun,
    PayoutState,
    check_transition,
)
from pool_server.core.payouts.plan import plan_rows
from pool_server.rails.csv_file import COLUMNS, CsvRail, safe_field, total_micros

#: The examples of the SWIFT registry.
IBANS = [
    "DE89370400440532013000",
    "GB29NWBK60161331926819",
    "FR1420041010050500013M02606",
    "NL91ABNA0417164300",
    "NO9386011117947",
    "MT84MALT011000012345MTLCAST001S",
    "CH9300762011623852957",
    "ES9121000418450200051332",
    "IT60X0542811101000000123456",
    "BE68539007547034",
    "AT611904300234573201",
    "SE4550000000058398257466",
    "PL61109010140000071219812874",
]
DETAILS = PayoutDetails(
    holder_name="Ada Lovelace", iban=IBANS[0], threshold_micros=10_000, town="Koeln", country="DE"
)
POOL_ID = "pool_test"


@pytest.mark.parametrize("iban", IBANS)
def test_real_ibans_pass(iban: str) -> None:
    assert iban_problem(iban) == ""


@given(st.sampled_from(IBANS), st.data())
def test_any_one_mistyped_or_swapped_character_is_found(iban: str, data: st.DataObject) -> None:
    """A digit for a digit, a letter for a letter; "1B" and "B1" are one number and cannot be told apart."""
    position = data.draw(st.integers(4, len(iban) - 1))
    alphabet = "0123456789" if iban[position].isdigit() else "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    character = data.draw(st.sampled_from(alphabet))
    changed = iban[:position] + character + iban[position + 1 :]
    assert (iban_problem(changed) == "") == (changed == iban)

    swap = data.draw(st.integers(4, len(iban) - 2))
    if iban[swap].isdigit() == iban[swap + 1].isdigit():
        swapped = iban[:swap] + iban[swap + 1] + iban[swap] + iban[swap + 2 :]
        assert (iban_problem(swapped) == "") == (swapped == iban)


@pytest.mark.parametrize(
    ("iban", "problem"),
    [
        ("", "capital"),
        ("1234", "country"),
        ("DE8937040044053201300", "22 characters"),
        ("US89370400440532013000", "country"),
        ("de89370400440532013000", "capital"),
        ("DE89 3704 0044 0532 0130 00", "capital"),
        ("DE00370400440532013000", "check digits"),
        ("DE88370400440532013000", "check digits"),
    ],
)
def test_what_is_wrong_with_an_iban_is_said(iban: str, problem: str) -> None:
    assert problem in iban_problem(iban)


@pytest.mark.parametrize("name", ["Ada Lovelace", "Łukasz Żółć", "O'Brien & Sons (UK)", "3M", "李小龙"])
def test_holders_names_that_pass(name: str) -> None:
    assert holder_name_problem(name) == ""


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * 71,
        " Ada",
        "=1+1",
        "+49 Ada",
        "-Ada",
        "@Ada",
        "Ada\nB",
        "Ada\t",
        "123",
        "Ada;B",
        'Ada"',
        "Ada\u0308",
    ],
)
def test_holders_names_that_do_not_pass(name: str) -> None:
    assert holder_name_problem(name) != ""


def test_details_are_kept_in_one_form() -> None:
    kept = check_details(
        PayoutDetails(
            holder_name=" Ada  Lovelace ",
            iban="de89 3704 0044 0532 0130 00",
            threshold_micros=10_000,
            town=" Koeln",
            country="de",
        ),
        sepa=True,
    )

    assert kept == DETAILS


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"holder_name": "=x"}, "holder_name"),
        ({"iban": "DE1"}, "iban"),
        ({"threshold_micros": 9_999}, "threshold_micros"),
    ],
)
def test_wrong_details_name_their_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(PoolError) as refusal:
        check_details(replace(DETAILS, **change), sepa=False)  # type: ignore[arg-type]

    assert refusal.value.code is ErrorCode.INVALID_ARGUMENT
    assert refusal.value.context == {"field": field}


@pytest.mark.parametrize(("before", "after"), list(itertools.product(PayoutState, PayoutState)))
def test_the_table_alone_says_which_state_follows(before: PayoutState, after: PayoutState) -> None:
    if (before, after) in TRANSITIONS:
        check_transition(1, before, after)
        return
    with pytest.raises(PoolError) as refusal:
        check_transition(1, before, after)

    assert refusal.value.code is ErrorCode.PAYOUT_STATE


def test_ended_states_lead_nowhere() -> None:
    assert not [step for step in TRANSITIONS if step[0] in (PayoutState.EXPORTED, PayoutState.CANCELLED)]


OWNERS = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 10**9), max_size=8)


@given(OWNERS, st.integers(1, 10**8))
def test_a_plan_pays_whole_cents_and_loses_nothing(available: dict[str, int], threshold: int) -> None:
    details = dict.fromkeys(available, replace(DETAILS, threshold_micros=max(threshold, 10_000)))

    plan = plan_rows(available, details, payout_id=3, pool_id=POOL_ID)

    assert plan.total_micros == sum(row.amount_micros for row in plan.rows)
    assert [row.owner_id for row in plan.rows] == sorted(row.owner_id for row in plan.rows)
    assert len({row.reference for row in plan.rows}) == len(plan.rows) == plan.row_count
    paid = {row.owner_id: row.amount_micros for row in plan.rows}
    for owner_id, amount in available.items():
        cents = amount // 10_000 * 10_000
        assert paid.get(owner_id, 0) == (cents if cents >= max(threshold, 10_000) else 0)


def test_who_does_not_fit_into_a_run_waits_for_the_next() -> None:
    details = {"owner_b": replace(DETAILS, iban="DE00")} | dict.fromkeys(["owner_a", "owner_c"], DETAILS)
    available = dict.fromkeys(details, 20_000)

    plan = plan_rows(available, details, payout_id=1, pool_id=POOL_ID, payments_max=1)

    assert [(row.owner_id, row.reason) for row in plan.rows] == [("owner_a", ""), ("owner_b", "IBAN_INVALID")]


def test_one_bad_row_is_left_out_with_its_reason_and_the_others_are_paid() -> None:
    details = {
        "owner_b": replace(DETAILS, iban="DE00"),
        "owner_c": DETAILS,
        "owner_d": replace(DETAILS, holder_name="=cmd()"),
        "owner_e": replace(DETAILS, threshold_micros=0),
        "owner_f": replace(DETAILS, threshold_micros=10**9),
    }
    available = dict.fromkeys(["owner_a", *details], 25_678)

    plan = plan_rows(available, details, payout_id=7, pool_id=POOL_ID)

    assert {row.owner_id: row.reason for row in plan.rows} == {
        "owner_a": LeftOut.NO_DETAILS,
        "owner_b": LeftOut.IBAN_INVALID,
        "owner_c": "",
        "owner_d": LeftOut.HOLDER_NAME_INVALID,
        "owner_e": LeftOut.THRESHOLD_INVALID,
    }
    assert (plan.total_micros, plan.row_count) == (20_000, 1)


RUN = PayoutRun(
    payout_id=3,
    state=PayoutState.APPROVED,
    currency="EUR",
    total_micros=1_230_000,
    row_count=1,
    idempotency_key="k",
    planned_by="operator_a",
    planned_at_us=1,
)


def row(owner_id: str, amount_micros: int, *, holder_name: str = "Ada", reason: str = "") -> PayoutRow:
    return PayoutRow(
        owner_id=owner_id,
        holder_name=holder_name,
        iban=IBANS[0],
        amount_micros=amount_micros,
        reason=reason,
        reference=f"CP-3-{owner_id}",
    )


def test_the_file_is_the_same_bytes_in_any_order_of_rows() -> None:
    rows = [row("b", 1_230_000), row("a", 10_000), row("c", 990_000, reason="IBAN_INVALID")]

    file = CsvRail().render(RUN, rows)

    assert file == CsvRail().render(RUN, rows[::-1])
    assert file.sha256_hex == hashlib.sha256(file.content).hexdigest()
    assert file.content == (
        b"payout_id,reference,owner_id,holder_name,iban,amount,currency\r\n"
        b"payout_3,CP-3-a,a,Ada,DE89370400440532013000,0.01,EUR\r\n"
        b"payout_3,CP-3-b,b,Ada,DE89370400440532013000,1.23,EUR\r\n"
    )
    assert total_micros(file.content) == 1_240_000


@given(st.text(max_size=20))
def test_no_field_is_a_formula_or_breaks_its_line(name: str) -> None:
    content = CsvRail().render(RUN, [row("a", 10_000, holder_name=name)]).content

    header, *lines = list(csv.reader(io.StringIO(content.decode(), newline="")))
    assert tuple(header) == COLUMNS
    assert len(lines) == 1
    assert lines[0][3] == safe_field(name)
    assert not lines[0][3].startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


def test_another_file_is_not_summed() -> None:
    with pytest.raises(ValueError, match="not a payout file"):
        total_micros(b"a,b\r\n1,2\r\n")
