"""Whom a bank can pay: rules for holder's name, IBAN and threshold, checked when set and when planned.

An IBAN is checked for its country's length and its check digits (ISO 13616, mod 97-10), not for whether the
account exists. A holder's name begins with a letter or digit and holds only letters, digits, spaces and the
punctuation that SEPA banks take, so that no spreadsheet ever reads it as a formula.
"""

import unicodedata
from types import MappingProxyType

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.money import AMOUNT_MICROS_MAX, MICROS_PER_CENT, MICROS_PER_UNIT
from pool_server.core.payouts.model import LeftOut, PayoutDetails

HOLDER_NAME_CHARACTERS_MAX = 70
#: What is shown as an owner's threshold before it set one: 10 units of the currency.
DEFAULT_THRESHOLD_MICROS = 10 * MICROS_PER_UNIT
_HOLDER_NAME_PUNCTUATION = frozenset(" /-?:().,'+&")

#: Length of an IBAN by country: the SWIFT registry.
IBAN_LENGTHS = MappingProxyType(
    {
        country: length
        for length, countries in {
            15: "NO",
            16: "BE",
            18: "DK FK FI FO GL NL SD",
            19: "MK SI",
            20: "AT BA EE KZ LT LU MN XK",
            21: "CH HR LI LV",
            22: "BG BH CR DE GB GE IE ME RS VA",
            23: "AE GI IL IQ OM SO TL",
            24: "AD CZ ES MD PK RO SA SE SK TN VG",
            25: "LY PT ST",
            26: "IS TR",
            27: "BI DJ FR GR IT MC MR SM",
            28: "AL AZ BY CY DO GT HU LB NI PL SV",
            29: "BR EG PS QA UA",
            30: "JO KW MU YE",
            31: "MT SC",
            32: "LC",
            33: "RU",
        }.items()
        for country in countries.split()
    }
)


def normalize_iban(text: str) -> str:
    """Return an IBAN as it is stored: upper case, without spaces."""
    return text.replace(" ", "").upper()


def iban_problem(iban: str) -> str:
    """Say what is wrong with a stored IBAN, or return an empty string."""
    if not (iban.isascii() and iban.isalnum() and iban == iban.upper()):
        return "an IBAN has only capital letters and digits"
    length = IBAN_LENGTHS.get(iban[:2])
    if length is None:
        return f"{iban[:2]!r} is not a country with IBANs"
    if len(iban) != length:
        return f"an IBAN of {iban[:2]} has {length} characters, not {len(iban)}"
    # The 2nd and 3rd characters are check digits: with the first four moved to the end and letters read as
    # 10 to 35, the number leaves 1 when divided by 97. Check digits 00, 01 and 99 are never issued.
    if not iban[2:4].isdigit() or iban[2:4] in {"00", "01", "99"}:
        return "its check digits are not valid"
    number = "".join(str(int(character, 36)) for character in iban[4:] + iban[:4])
    return "" if int(number) % 97 == 1 else "its check digits do not fit"


def holder_name_problem(name: str) -> str:
    """Say what is wrong with a holder's name, or return an empty string."""
    if not name or len(name) > HOLDER_NAME_CHARACTERS_MAX:
        return f"a holder's name has 1 to {HOLDER_NAME_CHARACTERS_MAX} characters"
    if name != unicodedata.normalize("NFC", name) or name != name.strip():
        return "a holder's name has no spaces at its ends and is in Unicode's form NFC"
    if not name[0].isalnum():
        return "a holder's name begins with a letter or a digit"
    for character in name:
        if character in _HOLDER_NAME_PUNCTUATION:
            continue
        if unicodedata.category(character)[0] not in "LNM":
            return f"a holder's name may not hold {character!r}"
    return "" if any(character.isalpha() for character in name) else "a holder's name has a letter"


def threshold_problem(threshold_micros: int) -> str:
    """Say what is wrong with a threshold, or return an empty string."""
    if not MICROS_PER_CENT <= threshold_micros <= AMOUNT_MICROS_MAX:
        return f"a threshold is at least one cent ({MICROS_PER_CENT} micros)"
    return ""


def left_out_reason(details: PayoutDetails | None) -> LeftOut | None:
    """Return why an owner with these details cannot be paid, or None."""
    if details is None:
        return LeftOut.NO_DETAILS
    if holder_name_problem(details.holder_name):
        return LeftOut.HOLDER_NAME_INVALID
    if iban_problem(details.iban):
        return LeftOut.IBAN_INVALID
    if threshold_problem(details.threshold_micros):
        return LeftOut.THRESHOLD_INVALID
    return None


def check_details(details: PayoutDetails) -> PayoutDetails:
    """Return details as they are stored, after checking all of them.

    Raises:
        PoolError: INVALID_ARGUMENT; the context's `field` names the first that is wrong.
    """
    checked = PayoutDetails(
        holder_name=unicodedata.normalize("NFC", " ".join(details.holder_name.split())),
        iban=normalize_iban(details.iban),
        threshold_micros=details.threshold_micros,
    )
    for field, problem in (
        ("holder_name", holder_name_problem(checked.holder_name)),
        ("iban", iban_problem(checked.iban)),
        ("threshold_micros", threshold_problem(checked.threshold_micros)),
    ):
        if problem:
            raise PoolError(ErrorCode.INVALID_ARGUMENT, f"{field}: {problem}", context={"field": field})
    return checked
