"""Owners' yearly totals as CSV, in the fields of DAC7 and of the forms 1099.

A field that an account's holder never gave is empty, and `missing` says which those are: nothing is guessed.
"""

from collections.abc import Sequence

from pool_protocol import amounts
from pool_server.core.issuer import Issuer, TaxRules
from pool_server.core.particulars import missing_for_1099, missing_for_dac7
from pool_server.core.yearly import OwnerYear
from pool_server.reports.csv_file import typed, written

_QUARTER_FIELDS = ("consideration", "activities", "fees", "taxes")
DAC7_COLUMNS = (
    *("year", "platform_operator", "owner_id", "activity", "kind", "name", "address", "country", "tax_id"),
    *("birth_date", "vat_id", "account", "account_holder", "currency"),
    *(f"q{quarter}_{field}" for quarter in range(1, 5) for field in _QUARTER_FIELDS),
    *(f"year_{field}" for field in _QUARTER_FIELDS),
    "missing",
)
FORM_1099_COLUMNS = (
    *("year", "payer", "owner_id", "form", "name", "address", "country", "tax_id", "account"),
    *("currency", "payments", "payment_count", "credited", "threshold", "threshold_reached", "missing"),
)


def dac7_csv(
    years: Sequence[OwnerYear], *, year: int, currency: str, issuer: Issuer, rules: TaxRules
) -> bytes:
    """Return a row per owner: identity, account, and each quarter's figures."""
    return written(
        DAC7_COLUMNS,
        (
            (
                str(year),
                typed(issuer.name),
                one.owner_id,
                rules.dac7_activity,
                one.particulars.kind.value,
                typed(one.particulars.display_name),
                typed(", ".join(one.particulars.address_lines)),
                one.particulars.country,
                typed(one.particulars.tax_id),
                one.particulars.birth_date,
                one.particulars.vat_id,
                one.account,
                typed(one.account_holder),
                currency,
                *(
                    cell
                    for quarter in one.quarters
                    for cell in (
                        amounts.decimal(quarter.consideration_micros),
                        str(quarter.activities),
                        amounts.decimal(quarter.fees_micros),
                        amounts.decimal(quarter.taxes_micros),
                    )
                ),
                amounts.decimal(one.consideration_micros),
                str(one.activities),
                amounts.decimal(sum(quarter.fees_micros for quarter in one.quarters)),
                amounts.decimal(sum(quarter.taxes_micros for quarter in one.quarters)),
                " ".join(missing_for_dac7(one.particulars)),
            )
            for one in years
        ),
    )


def form_1099_csv(
    years: Sequence[OwnerYear], *, year: int, currency: str, issuer: Issuer, rules: TaxRules
) -> bytes:
    """Return a row per owner: identity, the year's payments, and whether the form's threshold is reached."""
    return written(
        FORM_1099_COLUMNS,
        (
            (
                str(year),
                typed(issuer.name),
                one.owner_id,
                rules.form.form,
                typed(one.particulars.display_name),
                typed(", ".join(one.particulars.address_lines)),
                one.particulars.country,
                typed(one.particulars.tax_id),
                one.account,
                currency,
                amounts.decimal(one.payments_micros),
                str(one.payment_count),
                amounts.decimal(one.consideration_micros),
                str(rules.form.threshold_units),
                "yes" if rules.form.is_reached(one) else "no",
                " ".join(missing_for_1099(one.particulars)),
            )
            for one in years
        ),
    )
