"""Whom a bank can pay: rules for holder's name, IBAN and threshold, checked when set and when planned.

An IBAN is checked for its country's length and its check digits (ISO 13616, mod 97-10), not for whether the
account exists; the shell also asks a directory of banks. What a SEPA bank takes beyond that is in `sepa`. A
holder's name begins with a letter or digit and holds only letters, digits, spaces and the
punctuation that SEPA banks take, so that no spreadsheet ever reads it as a formula.
"""

import unicodedata
from types import MappingProxyType

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.money import AMOUNT_MICROS_MAX, MICROS_PER_CENT, MICROS_PER_UNIT
from pool_server.core.payouts.model import LeftOut, PayoutDetails
from pool_server.core.payouts.sepa import (
    SEPA_COUNTRIES,
    TOWN_CHARACTERS_MAX,
    bic_problem,
    country_problem,
    rewrite,
    sepa_text_problem,
)

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


def left_out_reason(details: PayoutDetails | None, *, sepa: bool) -> LeftOut | None:
    """Return why an owner with these details cannot be paid, or None.

    Args:
        details: As the owner set them, perhaps under the rules of an older version.
        sepa: Whether they must satisfy every SEPA bank.
    """
    if details is None:
        return LeftOut.NO_DETAILS
    if holder_name_problem(details.holder_name):
        return LeftOut.HOLDER_NAME_INVALID
    if iban_problem(details.iban):
        return LeftOut.IBAN_INVALID
    if threshold_problem(details.threshold_micros):
        return LeftOut.THRESHOLD_INVALID
    return _sepa_reason(details) if sepa else None


def _sepa_reason(details: PayoutDetails) -> LeftOut | None:
    if sepa_text_problem(details.holder_name, characters_max=HOLDER_NAME_CHARACTERS_MAX):
        return LeftOut.HOLDER_NAME_NOT_SEPA
    if details.iban[:2] not in SEPA_COUNTRIES:
        return LeftOut.IBAN_NOT_SEPA
    if not details.town or not details.country:
        return LeftOut.ADDRESS_MISSING
    if sepa_text_problem(details.town, characters_max=TOWN_CHARACTERS_MAX) or country_problem(
        details.country
    ):
        return LeftOut.ADDRESS_INVALID
    return LeftOut.BIC_INVALID if bic_problem(details.bic, iban=details.iban) else None


def check_details(details: PayoutDetails, *, sepa: bool) -> PayoutDetails:
    """Return details as they are stored, after checking all of them.

    With `sepa`, name and town must be written as every bank takes them. What is not is refused together with
    how it would be written: entering that is how an owner confirms it.

    Raises:
        PoolError: INVALID_ARGUMENT; the context's `field` names the first that is wrong, and `proposal`,
        where
            there is one, is what to send instead.
    """
    checked = PayoutDetails(
        holder_name=_one_form(details.holder_name),
        iban=normalize_iban(details.iban),
        threshold_micros=details.threshold_micros,
        town=_one_form(details.town),
        country=details.country.strip(" ").upper(),
        bic=details.bic.replace(" ", "").upper(),
    )
    for field, problem in (
        ("iban", iban_problem(checked.iban)),
        ("holder_name", holder_name_problem(checked.holder_name)),
        ("threshold_micros", threshold_problem(checked.threshold_micros)),
    ):
        _require(field, problem)
    if sepa:
        _check_for_sepa(checked)
    else:
        _check_elsewhere(checked)
    return checked


def _one_form(text: str) -> str:
    """Return a text in Unicode's form NFC, its words parted by one space."""
    return unicodedata.normalize("NFC", " ".join(part for part in text.split(" ") if part))


def _require(field: str, problem: str) -> None:
    if problem:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, f"{field}: {problem}", context={"field": field})


def _check_for_sepa(details: PayoutDetails) -> None:
    if details.iban[:2] not in SEPA_COUNTRIES:
        _require("iban", f"accounts of {details.iban[:2]} cannot be reached by SEPA transfer")
    _require_written("holder_name", details.holder_name, HOLDER_NAME_CHARACTERS_MAX, details.iban[:2])
    if not details.town:
        _require("town", "say in which town you live: banks no longer take payments without it")
    _require_written("town", details.town, TOWN_CHARACTERS_MAX, details.iban[:2])
    _require("country", country_problem(details.country))
    _require("bic", bic_problem(details.bic, iban=details.iban))


def _check_elsewhere(details: PayoutDetails) -> None:
    """Check what need not be given outside SEPA, where it is given."""
    if details.town:
        _require("town", holder_name_problem(details.town))
    if details.country:
        _require("country", country_problem(details.country))
    _require("bic", bic_problem(details.bic, iban=details.iban))


def _require_written(field: str, text: str, characters_max: int, country: str) -> None:
    """Refuse a text that would not reach every bank as it is, and say how it would be written."""
    written, problem = rewrite(text, country=country)
    _require(field, problem)
    too_much = sepa_text_problem(written, characters_max=characters_max)
    if too_much and written != text:
        too_much = f"banks would be given {written!r}: {too_much}"
    _require(field, too_much)
    if written != text:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"{field}: banks would be given {written!r}; enter it so to confirm, or as your bank writes it",
            context={"field": field, "proposal": written},
        )
