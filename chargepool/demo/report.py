"""The demo's closing table."""

from __future__ import annotations

from chargepool.demo.accounting import Books, CarAccount
from chargepool.demo.cast import Part
from chargepool.demo.console import Console
from chargepool.demo.job import JobOutcome
from pool_protocol import amounts

NOTES = {Part.HONEST: "", Part.LIAR: "slept, then lied", Part.UNPLUGGED: "unplugged"}


def euros(micros: int) -> str:
    """Micro-units as euros with four decimals, so that small work shows."""
    return amounts.amount(micros, decimals=4)


def row(car: CarAccount) -> str:
    """One car's line."""
    note = ", ".join(part for part in (NOTES[car.part], car.quarantine_reason and "caught") if part)
    return (
        f"  {car.name:<9}{car.owner_name:<14}{car.verified:>8}{car.rejected:>9}{car.abandoned:>8} "
        f"{euros(car.net_micros):>9}{euros(car.paid_micros):>9} {note}".rstrip()
    )


def electricity_row(car: CarAccount) -> str:
    """What one owner's electricity cost, and what is left."""
    used = f"  {car.name:<9}{car.watts:>6.0f} W{car.energy_mj / 3_600_000:>9.3f}"
    if car.electricity_micros is None or car.left_micros is None:
        return f"{used}   no tariff set, so nobody knows what is left"
    return f"{used}{amounts.amount(car.electricity_micros):>12}{amounts.amount(car.left_micros):>12}"


def print_books(console: Console, books: Books, outcome: JobOutcome) -> None:
    """What each car did and earned, and how the books stand."""
    console.line()
    console.line("  car      owner         verified rejected gave up   net EUR paid EUR")
    for car in books.cars:
        console.line(row(car))
    console.line()
    console.line("  car      declared       Wh   power EUR    left EUR   (net of fee minus electricity)")
    for car in books.cars:
        console.line(electricity_row(car))
    console.line()
    console.line("  what `pool-server vehicles evidence` tells of the liar:")
    for sentence in books.liar_story:
        console.line(f"    {sentence}")
    console.line()
    console.line(f"  accuracy on held-out digits   {outcome.accuracy:.2%}")
    console.line(f"  tasks / attempts              {outcome.tasks} / {outcome.attempts}")
    console.line(f"  buyer paid                    {euros(outcome.spent_micros)} EUR")
    console.line(f"  receipts verified             {books.receipts_verified}")
    held = "all hold" if books.ledger_ok else "VIOLATED"
    console.line(f"  invariants of the books       {books.ledger_checks} checked, {held}")
    paid = f"{euros(books.payout_total_micros)} EUR to {books.payout_rows} owners"
    console.line(f"  {books.payout_id} as SEPA file        {paid}")
    console.line()
