"""What an owner types about the bank account, checked before it is sent. The pool checks it too."""

import re
from dataclasses import dataclass

from pool_protocol import amounts
from pool_protocol.money import MICROS_PER_CENT, MICROS_PER_UNIT
from tui.facts import BankFacts

_AMOUNT = re.compile(r"(\d{1,9})(?:[.,](\d{1,2}))?")
_COUNTRY = re.compile(r"[A-Z]{2}")
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BankInput:
    """What was typed, as facts, or what is wrong with it."""

    facts: BankFacts | None
    problem: str = ""


def bank_input(holder_name: str, iban: str, threshold: str, town: str, country: str) -> BankInput:
    """Read the typed fields; the pool finds the bank's BIC by itself."""
    holder = " ".join(holder_name.split())
    account = re.sub(r"\s", "", iban).upper()
    if not holder:
        return BankInput(facts=None, problem="Who holds the account? The bank compares the name.")
    if not _IBAN.fullmatch(account) or not _mod_97_is_one(account):
        return BankInput(facts=None, problem="This is not an IBAN: compare it with your bank's letter.")
    amount = _AMOUNT.fullmatch(threshold.strip() or "0.01")
    if amount is None:
        return BankInput(facts=None, problem="An amount has at most two decimals, like 10 or 7.50.")
    cents = (amount[2] or "").ljust(2, "0")
    micros = int(amount[1]) * MICROS_PER_UNIT + int(cents) * MICROS_PER_CENT
    if micros < MICROS_PER_CENT:
        return BankInput(facts=None, problem="The least amount that can be sent is one cent.")
    place, land = " ".join(town.split()), country.strip().upper()
    if not place or not _COUNTRY.fullmatch(land):
        return BankInput(facts=None, problem="Banks ask where you live: a town, and a country such as DE.")
    return BankInput(
        facts=BankFacts(holder_name=holder, iban=account, threshold_micros=micros, town=place, country=land)
    )


def refusal_words(*, public: str, detail: str, proposal: str) -> str:
    """Say what the pool refused, in one sentence; what it proposes instead stands in the field already."""
    if proposal:
        return f"Banks would read {proposal!r}. Save again to confirm, or write it as your bank does."
    return detail.partition(": ")[2] or public


def _mod_97_is_one(iban: str) -> bool:
    """Check the two check digits (ISO 7064): a mistyped character or a swap is found here already."""
    digits = "".join(str(int(character, 36)) for character in iban[4:] + iban[:4])
    return int(digits) % 97 == 1


def threshold_text(threshold_micros: int) -> str:
    """Write the threshold as it would be typed; nothing when none is set."""
    return amounts.decimal(threshold_micros, decimals=2) if threshold_micros else ""
