"""Particulars: what is kept, what is refused and why, what a report finds missing."""

from dataclasses import replace
from datetime import date

import pytest

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.core.particulars import (
    EMPTY,
    HolderKind,
    Particulars,
    VatScheme,
    check_particulars,
    missing_for_1099,
    missing_for_dac7,
)

TODAY = date(2026, 11, 25)
OLGA = Particulars(
    locale="de_DE",
    display_name="Ольга Ivanović",
    address_lines=("Straße 1", "10115 Berlin"),
    country="DE",
    kind=HolderKind.PERSON,
    tax_id="12 345 678 901",
    birth_date="1984-03-21",
    vat_id="de 123.456-789",
    vat_scheme=VatScheme.STANDARD,
)


def checked(particulars: Particulars) -> Particulars:
    return check_particulars(particulars, today=TODAY)


def test_everything_may_stay_empty() -> None:
    assert checked(EMPTY) == EMPTY


def test_what_is_kept_is_tidy_and_checking_it_again_changes_nothing() -> None:
    kept = checked(
        replace(
            OLGA, display_name="  Jose\u0301 \u00a0", address_lines=("", " 1 Main St ", "  "), tax_id=" 123 "
        )
    )
    assert (kept.display_name, kept.address_lines, kept.tax_id) == ("José", ("1 Main St",), "123")
    assert checked(OLGA).vat_id == "DE123456789"
    assert checked(kept) == kept


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"display_name": "x" * 141}, "display_name"),
        ({"display_name": "Eve\nadmin"}, "display_name"),
        ({"display_name": "\u202egnp.exe"}, "display_name"),
        ({"address_lines": ("a",) * 6}, "address_lines"),
        ({"address_lines": ("a" * 71,)}, "address_lines"),
        ({"address_lines": ("a\x00b",)}, "address_lines"),
        ({"tax_id": "=1+1"}, "tax_id"),
        ({"tax_id": "12"}, "tax_id"),
        ({"tax_id": "1" * 25}, "tax_id"),
        ({"tax_id": "12345", "country": "US"}, "tax_id"),
        ({"birth_date": "21.03.1984"}, "birth_date"),
        ({"birth_date": "1899-12-31"}, "birth_date"),
        ({"birth_date": "2026-11-26"}, "birth_date"),
        ({"kind": HolderKind.COMPANY}, "birth_date"),
        ({"vat_id": "123456789"}, "vat_id"),
        ({"vat_id": "=DE1"}, "vat_id"),
        ({"vat_id": "", "vat_scheme": VatScheme.REVERSE_CHARGE}, "vat_scheme"),
    ],
)
def test_what_no_paper_can_carry_is_refused_with_its_field(changes: dict[str, object], field: str) -> None:
    with pytest.raises(PoolError) as refused:
        checked(replace(OLGA, **changes))  # type: ignore[arg-type] # wrong values are the point
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT
    assert refused.value.context["field"] == field


@pytest.mark.parametrize("tax_id", ["123-45-6789", "12-3456789", "123456789"])
def test_us_numbers(tax_id: str) -> None:
    assert checked(replace(OLGA, country="US", tax_id=tax_id)).tax_id == tax_id


def test_reports_name_what_is_missing_in_order() -> None:
    assert missing_for_dac7(EMPTY) == ("display_name", "address_lines", "country", "kind", "tax_id")
    assert missing_for_1099(EMPTY) == ("display_name", "address_lines", "tax_id")
    assert missing_for_dac7(OLGA) == missing_for_1099(OLGA) == ()
    assert missing_for_dac7(replace(OLGA, birth_date="")) == ("birth_date",)
    assert missing_for_dac7(replace(OLGA, birth_date="", kind=HolderKind.COMPANY)) == ()
