"""What SEPA banks take: letters, names that are shown and confirmed, addresses, BICs, bank days."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.core.payouts.calendar import easter_sunday, is_target_day, next_target_day
from pool_server.core.payouts.details import check_details, left_out_reason
from pool_server.core.payouts.model import LeftOut, PayoutDetails
from pool_server.core.payouts.references import (
    block_id,
    block_rows,
    end_to_end_reference,
    message_id,
    payout_id_of,
    row_number,
)
from pool_server.core.payouts.sepa import bic_problem, is_sepa_text, rewrite, sepa_text_problem
from pool_server.rails.bank_directory import SchwiftyDirectory
from tests.support.payees import DETAILS


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("Łukasz Żółć", "Lukasz Zolc"),
        ("Jürgen Groß", "Juergen Gross"),
        ("Æsa Þórsdóttir", "Aesa Thorsdottir"),
        ("Ελένη", "Eleni"),
        ("Юлия Щукина", "Iuliia Shchukina"),
        ("O\u2019Brien & Søn", "O'Brien + Son"),
        ("Ada_Lovelace", "Ada-Lovelace"),
        ("\ufb01nn", "finn"),
        ("Ada\u00a0Lovelace", "Ada Lovelace"),
    ],
)
def test_names_are_rewritten_letter_by_letter(typed: str, written: str) -> None:
    assert rewrite(typed, country="DE") == (written, "")


def test_umlauts_are_written_as_the_accounts_country_does() -> None:
    assert rewrite("Jürgen Öst", country="SE") == ("Jurgen Ost", "")


@pytest.mark.parametrize(
    "typed",
    [
        "Ada\x00",
        "Ada\nB",
        "Ada\x1b[31m",
        "\u202eadA",
        "Ada \U0001f697",
        "李小龙",
        "محمد",
        "<Ada>",
        "=1+1!",
        'A"',
    ],
)
def test_what_has_no_latin_letters_is_refused_by_its_number(typed: str) -> None:
    written, problem = rewrite(typed, country="DE")

    assert written == ""
    assert "U+" in problem
    assert problem.isprintable()


@given(st.text(max_size=80), st.sampled_from(["DE", "SE"]))
def test_whatever_is_rewritten_reaches_every_bank_and_stays_so(text: str, country: str) -> None:
    written, problem = rewrite(text, country=country)

    assert is_sepa_text(written)
    assert not (written and problem)
    if not problem:
        assert rewrite(written, country=country) == (written, "")


@given(st.text(max_size=90), st.text(max_size=40))
def test_details_that_are_kept_are_details_that_a_sepa_run_pays(name: str, town: str) -> None:
    """What enrolment lets through is never quarantined, and is as the owner typed it but for blanks."""
    kept, field = DETAILS, ""
    try:
        kept = check_details(replace(DETAILS, holder_name=name, town=town), sepa=True)
    except PoolError as error:
        field = error.context["field"]
    if field:
        assert field in ("holder_name", "town")
        return
    assert left_out_reason(kept, sepa=True) is None
    assert kept.holder_name == " ".join(name.split(" ")).strip() or "  " in name or name != name.strip()


def refusal(**changes: object) -> PoolError:
    with pytest.raises(PoolError) as refused:
        check_details(replace(DETAILS, **changes), sepa=True)  # type: ignore[arg-type]
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT
    return refused.value


def test_the_owner_is_shown_what_the_bank_would_read_and_confirms_it_by_entering_it() -> None:
    shown = refusal(holder_name="Łukasz Żółć")

    assert shown.context == {"field": "holder_name", "proposal": "Lukasz Zolc"}
    assert "'Lukasz Zolc'" in shown.detail
    confirmed = check_details(replace(DETAILS, holder_name="Lukasz Zolc"), sepa=True)
    assert confirmed.holder_name == "Lukasz Zolc"


def test_nothing_is_cut_not_even_a_name_that_grows_when_it_is_rewritten() -> None:
    shown = refusal(holder_name="ß" * 40)

    assert "proposal" not in shown.context
    assert "70 characters, not 80" in shown.detail


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"holder_name": "A" * 71}, "holder_name"),
        ({"town": ""}, "town"),
        ({"town": "x" * 36}, "town"),
        ({"town": "12345"}, "town"),
        ({"town": "Köln"}, "town"),
        ({"country": ""}, "country"),
        ({"country": "XX"}, "country"),
        ({"country": "Germany"}, "country"),
        ({"bic": "COBADEFF12"}, "bic"),
        ({"bic": "NWBKGB2LXXX"}, "bic"),
        ({"iban": "AE070331234567890123456"}, "iban"),
    ],
)
def test_what_is_wrong_for_sepa_names_its_field(changes: dict[str, object], field: str) -> None:
    assert refusal(**changes).context["field"] == field


def test_outside_sepa_details_need_no_address_and_names_may_be_in_any_script() -> None:
    plain = PayoutDetails(holder_name="李小龙", iban=DETAILS.iban, threshold_micros=10_000)

    assert check_details(plain, sepa=False) == plain


@pytest.mark.parametrize(("field", "text"), [("town", "a\x00b"), ("country", "\x00\x00"), ("bic", "\x00")])
def test_what_need_not_be_given_outside_sepa_is_checked_where_it_is(field: str, text: str) -> None:
    with pytest.raises(PoolError) as refused:
        check_details(replace(DETAILS, **{field: text}), sepa=False)  # type: ignore[arg-type]
    assert refused.value.context == {"field": field}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"holder_name": "Łukasz"}, LeftOut.HOLDER_NAME_NOT_SEPA),
        ({"holder_name": "=1"}, LeftOut.HOLDER_NAME_INVALID),
        ({"iban": "AE070331234567890123456"}, LeftOut.IBAN_NOT_SEPA),
        ({"town": ""}, LeftOut.ADDRESS_MISSING),
        ({"country": ""}, LeftOut.ADDRESS_MISSING),
        ({"town": "Köln"}, LeftOut.ADDRESS_INVALID),
        ({"country": "XX"}, LeftOut.ADDRESS_INVALID),
        ({"bic": "X"}, LeftOut.BIC_INVALID),
        ({}, None),
    ],
)
def test_older_details_are_left_out_of_a_sepa_run_with_a_reason(
    changes: dict[str, object], reason: LeftOut | None
) -> None:
    assert left_out_reason(replace(DETAILS, **changes), sepa=True) is reason  # type: ignore[arg-type]


def test_a_bic_goes_with_its_iban() -> None:
    assert bic_problem("COBADEFFXXX", iban="DE89") == ""
    assert bic_problem("", iban="DE89") == ""
    assert bic_problem("BNPAGPGX", iban="FR14") == ""  # Guadeloupe has French IBANs
    assert "does not go with" in bic_problem("NWBKGB2L", iban="DE89")


def test_a_text_for_a_bank_has_bounds() -> None:
    assert sepa_text_problem("A", characters_max=1) == ""
    assert "not 2" in sepa_text_problem("AB", characters_max=1)
    assert "spaces" in sepa_text_problem("A  B", characters_max=9)
    assert "letter or a digit" in sepa_text_problem("-A", characters_max=9)


def test_the_directory_knows_banks_and_their_countries_rules() -> None:
    directory = SchwiftyDirectory()

    found = directory.look_up(DETAILS)
    assert (found.name, found.bic) == ("Commerzbank", "COBADEFFXXX")
    # Right check digits of the IBAN, wrong ones of the account itself.
    with pytest.raises(PoolError) as refused:
        directory.look_up(replace(DETAILS, iban="DE71370400440000000334"))
    assert refused.value.context == {"field": "iban"}
    # No rule is registered for Sweden, and no bank is known here: neither is a problem.
    assert directory.look_up(replace(DETAILS, iban="SE4550000000058398257466")).bic == "ESSESESS"
    assert directory.look_up(replace(DETAILS, iban="BE68539007547034")).bic == ""


def test_references_say_pool_run_and_row_and_can_be_read_back() -> None:
    message = message_id("pool_a", 12)
    block = block_id(message, 1, 1_000)

    assert end_to_end_reference("pool_a", 12, 17) == f"{message}-17"
    assert row_number(f"{message}-17") == 17
    assert payout_id_of(message) == 12
    assert block_rows(block) == (message, 1, 1_000)
    assert message != message_id("pool_b", 12)
    assert all(len(name) <= 35 and is_sepa_text(name) for name in (message, block))
    assert block_rows(message) is None
    assert payout_id_of("CP-3") is None
    assert payout_id_of(message + "-B1-2") is None


@pytest.mark.parametrize(
    ("year", "easter"), [(2024, "03-31"), (2025, "04-20"), (2026, "04-05"), (2027, "03-28"), (2038, "04-25")]
)
def test_easter_is_where_the_church_has_it(year: int, easter: str) -> None:
    assert easter_sunday(year) == date.fromisoformat(f"{year}-{easter}")


def test_target_is_closed_on_its_six_days_and_on_weekends() -> None:
    closed = [
        day
        for day in (date(2026, 1, 1) + timedelta(days=n) for n in range(365))
        if day.weekday() < 5 and not is_target_day(day)
    ]
    # 26 December is a Saturday in 2026.
    assert [day.isoformat()[5:] for day in closed] == ["01-01", "04-03", "04-06", "05-01", "12-25"]


@pytest.mark.parametrize(
    ("exported", "executed"),
    [
        ("2026-11-25T23:59:59", "2026-11-26"),
        ("2026-11-27T00:00:00", "2026-11-30"),
        ("2026-12-24T12:00:00", "2026-12-28"),
        ("2026-04-02T12:00:00", "2026-04-07"),
        ("2026-12-31T12:00:00", "2027-01-04"),
    ],
)
def test_payments_are_asked_for_on_the_first_bank_day_after_the_export(exported: str, executed: str) -> None:
    at = datetime.fromisoformat(exported).replace(tzinfo=UTC)

    assert next_target_day(round(at.timestamp()) * 1_000_000).isoformat() == executed
