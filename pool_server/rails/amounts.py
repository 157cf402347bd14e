"""Amounts as banks write them, to the cent, as integers."""

import re

from pool_protocol.money import MICROS_PER_CENT
from pool_server.rails.bank_xml import Element, unreadable

_AMOUNT = re.compile(r"\+?(\d{1,13})(?:\.(\d{1,5}))?")


def amount_micros(text: str) -> int:
    """Read `12`, `12.3` or `12.34` (and zeros behind) as micro-units.

    Raises:
        PoolError: INVALID_ARGUMENT when it is no amount of whole cents.
    """
    match = _AMOUNT.fullmatch(text.strip())
    cents = (match[2] or "") if match else ""
    if match is None or cents[2:].strip("0"):
        raise unreadable(f"{text[:40]!r} is not an amount in cents")
    return (int(match[1]) * 100 + int(cents[:2].ljust(2, "0"))) * MICROS_PER_CENT


def element_amount(element: Element | None) -> tuple[int | None, str]:
    """Read an amount's element: micro-units and currency; (None, "") without one."""
    if element is None:
        return None, ""
    return amount_micros(element.text), element.attributes.get("Ccy", "")
