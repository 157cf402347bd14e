"""A buyer's usage in the FinOps Open Cost and Usage Specification (FOCUS) 1.2, as CSV.

One row per job, price and day of verified work (`Usage`). Where rounding each result up to a whole micro-unit
made it dearer than work times price, a second row has the difference (`Adjustment`): so unit price times
quantity is the cost of every usage row exactly, as the specification asks, and the rows of a month add up to
the invoice. Entries other than deposits and refunds (credits, corrections) are rows too; deposits and refunds
are payments, no charges, and FOCUS has no place for them. A value that there is not is an empty cell.

`x_EnergyKwh` is what vehicles told of their energy, `x_EnergyResults` how many results that is of: where it
is fewer than `x_VerifiedResults`, the energy of the others is not known.
"""

from collections.abc import Iterable, Mapping, Sequence

from pool_protocol import amounts
from pool_protocol.limits import DAY_US
from pool_server.core.buyer_month import BuyerMonth, Charge, Entry
from pool_server.core.issuer import Issuer
from pool_server.core.ledger.model import TransferCode
from pool_server.core.particulars import Particulars
from pool_server.core.statement import format_kwh, month_bounds_us
from pool_server.reports.csv_file import typed, written

VERSION = "1.2"
#: Columns that the specification has as mandatory, then those recommended or conditional that apply here.
COLUMNS = (
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingAccountType", "BillingCurrency"),
    *("BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription"),
    *("ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart", "ConsumedQuantity", "ConsumedUnit"),
    *("ContractedCost", "ContractedUnitPrice", "EffectiveCost", "InvoiceId", "InvoiceIssuerName", "ListCost"),
    *("ListUnitPrice", "PricingCategory", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName"),
    *("ResourceId", "ResourceName", "ResourceType", "ServiceCategory", "ServiceName", "ServiceSubcategory"),
    *("SkuId", "SkuMeter", "SkuPriceId"),
    *("x_VerificationLevel", "x_VerifiedResults", "x_WorkUnits", "x_ProgramSha256", "x_EnergyKwh"),
    "x_EnergyResults",
)
UNIT = "Work Units"
_SKU = "verified-work"
_PAYMENTS = frozenset({TransferCode.DEPOSIT, TransferCode.REFUND})
_CREDITS = frozenset({TransferCode.SLA_CREDIT, TransferCode.GOODWILL})


def focus_csv(
    months: Sequence[BuyerMonth],
    *,
    numbers: Mapping[str, str],
    buyer_name: str,
    particulars: Particulars,
    issuer: Issuer,
) -> bytes:
    """Return the file.

    Args:
        months: In order.
        numbers: Of the papers that were issued, by month.
        buyer_name: The account's name, for want of particulars.
        particulars: The buyer's.
        issuer: The pool.
    """
    rows: list[dict[str, str]] = []
    for month in months:
        common = _common(
            month,
            number=numbers.get(month.month, ""),
            name=particulars.display_name or buyer_name,
            issuer=issuer,
        )
        for charge in month.charges:
            rows.extend(common | row for row in _charge_rows(charge))
        # The paper's sum is the cost of work: what else changed the prepaid money is not billed by it.
        common["InvoiceId"] = ""
        rows.extend(common | _entry_row(entry) for entry in month.entries if entry.code not in _PAYMENTS)
    return written(COLUMNS, ([row.get(column, "") for column in COLUMNS] for row in rows))


def _common(month: BuyerMonth, *, number: str, name: str, issuer: Issuer) -> dict[str, str]:
    from_us, until_us = month_bounds_us(month.month)
    return {
        "BillingAccountId": month.buyer_id,
        "BillingAccountName": typed(name),
        "BillingAccountType": "Buyer",
        "BillingCurrency": month.currency,
        "BillingPeriodStart": amounts.iso_time(from_us),
        "BillingPeriodEnd": amounts.iso_time(until_us),
        "InvoiceId": number,
        "InvoiceIssuerName": typed(issuer.name),
        "ProviderName": typed(issuer.name),
        "PublisherName": typed(issuer.name),
        "ServiceCategory": "Compute",
        "ServiceSubcategory": "Serverless Compute",
        "ServiceName": "Verified computing on charging cars",
    }


def _charge_rows(charge: Charge) -> Iterable[dict[str, str]]:
    exact = amounts.decimal_pico(charge.exact_price_pico)
    price = amounts.decimal(charge.price_micros_per_wu)
    about = {
        **_charge_period(charge.day * DAY_US),
        "ResourceId": f"job_{charge.job_id}",
        "ResourceName": typed(charge.job_name),
        "ResourceType": "Job",
        "x_VerificationLevel": charge.level,
        "x_ProgramSha256": charge.program_sha256,
    }
    yield {
        **about,
        "ChargeCategory": "Usage",
        "ChargeFrequency": "Usage-Based",
        "ChargeDescription": f"{charge.attempts} verified results of job_{charge.job_id}",
        "BilledCost": exact,
        "EffectiveCost": exact,
        "ListCost": exact,
        "ContractedCost": exact,
        "ListUnitPrice": price,
        "ContractedUnitPrice": price,
        "PricingCategory": "Standard" if charge.is_quoted else "Dynamic",
        "PricingQuantity": amounts.decimal_work(charge.work_uwu),
        "PricingUnit": UNIT,
        "ConsumedQuantity": amounts.decimal_work(charge.work_uwu),
        "ConsumedUnit": UNIT,
        "SkuId": f"{_SKU}-{charge.level or 'none'}",
        "SkuPriceId": f"{_SKU}-{charge.level or 'none'}",
        "SkuMeter": "Verified work",
        "x_VerifiedResults": str(charge.attempts),
        "x_WorkUnits": amounts.decimal_work(charge.work_uwu),
        "x_EnergyKwh": format_kwh(charge.energy_mj) if charge.energy_attempts else "",
        "x_EnergyResults": str(charge.energy_attempts),
    }
    if charge.rounding_pico:
        rounding = amounts.decimal_pico(charge.rounding_pico)
        yield {
            **about,
            "ChargeCategory": "Adjustment",
            "ChargeFrequency": "Usage-Based",
            "ChargeDescription": f"Each of {charge.attempts} results rounded up to a millionth",
            **_costs(rounding),
        }


def _entry_row(entry: Entry) -> dict[str, str]:
    # What comes to the buyer lowers the cost.
    return {
        **_charge_period(entry.at_us // DAY_US * DAY_US),
        "ChargeCategory": _category(entry.code),
        "ChargeClass": "Correction" if entry.code == TransferCode.CORRECTION else "",
        "ChargeFrequency": "One-Time",
        "ChargeDescription": f"{entry.words} ({entry.reference})",
        **_costs(amounts.decimal(-entry.amount_micros)),
    }


def _category(code: int) -> str:
    if code == TransferCode.VAT:
        return "Tax"
    return "Credit" if code in _CREDITS else "Adjustment"


def _costs(cost: str) -> dict[str, str]:
    return dict.fromkeys(("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"), cost)


def _charge_period(day_us: int) -> dict[str, str]:
    return {
        "ChargePeriodStart": amounts.iso_time(day_us),
        "ChargePeriodEnd": amounts.iso_time(day_us + DAY_US),
    }
