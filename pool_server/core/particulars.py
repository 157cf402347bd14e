"""Who an account's holder is, as papers and tax authorities ask: rules for what may be stored. Pure.

Every field may stay empty, and nothing is guessed: a paper that needs a missing field says which. Text is
kept as it was typed, in Unicode's composed form, one line per field. Whether a locale or a country exists is
decided by the caller (`pool_protocol.amounts` knows); whether a tax number was ever issued, by nobody here.
"""

import re
import unicodedata
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum, unique

from pool_protocol.errors import ErrorCode, PoolError

NAME_CHARACTERS_MAX = 140
ADDRESS_LINES_MAX = 5
ADDRESS_LINE_CHARACTERS_MAX = 70
_TAX_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ./-]{2,23}", re.ASCII)
#: Nine digits, with or without the dashes of a Social Security or Employer Identification Number.
_US_TAX_ID = re.compile(r"\d{3}-?\d{2}-?\d{4}|\d{2}-?\d{7}", re.ASCII)
#: A country (EL is Greece, XI Northern Ireland) and 2 to 12 letters and digits: Directive 2006/112/EC.
_VAT_ID = re.compile(r"[A-Z]{2}[A-Z0-9+*]{2,12}", re.ASCII)
_EARLIEST_BIRTH = date(1900, 1, 1)


@unique
class HolderKind(StrEnum):
    """What the holder is."""

    UNSTATED = ""
    PERSON = "person"
    COMPANY = "company"


@unique
class VatScheme(StrEnum):
    """How value added tax is dealt with between the holder and the pool."""

    UNSTATED = ""
    STANDARD = "standard"
    """At the operator's rate; amounts include it."""
    REVERSE_CHARGE = "reverse_charge"
    """The recipient owes it."""
    EXEMPT = "exempt"
    """None is due: a small business, a private person, or a country without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Particulars:
    """An account's particulars."""

    locale: str = ""
    """How amounts and dates are written, for example de_DE."""
    display_name: str = ""
    """The name that papers carry."""
    address_lines: tuple[str, ...] = ()
    country: str = ""
    """ISO 3166, two letters."""
    kind: HolderKind = HolderKind.UNSTATED
    tax_id: str = ""
    """Number of the country's tax authority (TIN)."""
    birth_date: str = ""
    """Of a person: 1984-03-21."""
    vat_id: str = ""
    vat_scheme: VatScheme = VatScheme.UNSTATED


EMPTY = Particulars()


def check_particulars(given: Particulars, *, today: date) -> Particulars:
    """Return particulars as they are stored.

    Raises:
        PoolError: INVALID_ARGUMENT; the context's `field` says which field, the text what is wrong with it.
    """
    lines = tuple(line for line in given.address_lines if line.strip())
    if len(lines) > ADDRESS_LINES_MAX:
        raise _refused("address_lines", f"an address has at most {ADDRESS_LINES_MAX} lines")
    kept = replace(
        given,
        display_name=_line("display_name", given.display_name, characters_max=NAME_CHARACTERS_MAX),
        address_lines=tuple(
            _line("address_lines", line, characters_max=ADDRESS_LINE_CHARACTERS_MAX) for line in lines
        ),
        tax_id=given.tax_id.strip(),
        birth_date=_birth_date(given.birth_date.strip(), today=today),
        vat_id=re.sub(r"[ .-]", "", given.vat_id).upper(),
    )
    if kept.tax_id:
        _check_tax_id(kept)
    if kept.birth_date and kept.kind is HolderKind.COMPANY:
        raise _refused("birth_date", "a company has no date of birth: leave it out, or say kind person")
    if kept.vat_id and not _VAT_ID.fullmatch(kept.vat_id):
        raise _refused("vat_id", "a VAT number begins with its country's two letters, like DE123456789")
    if kept.vat_scheme is VatScheme.REVERSE_CHARGE and not kept.vat_id:
        raise _refused("vat_scheme", "reverse charge needs the recipient's VAT number (vat_id)")
    return kept


def missing_for_dac7(particulars: Particulars) -> tuple[str, ...]:
    """Return the fields that a DAC7 report asks for and that are empty, in the order of `Particulars`."""
    asked = ["display_name", "address_lines", "country", "kind", "tax_id"]
    if particulars.kind is HolderKind.PERSON:
        asked.append("birth_date")
    return tuple(name for name in asked if not getattr(particulars, name))


def missing_for_1099(particulars: Particulars) -> tuple[str, ...]:
    """Return the fields that a form 1099 asks for and that are empty."""
    return tuple(
        name for name in ("display_name", "address_lines", "tax_id") if not getattr(particulars, name)
    )


def _line(field: str, text: str, *, characters_max: int) -> str:
    line = unicodedata.normalize("NFC", " ".join(text.split(" "))).strip()
    if len(line) > characters_max:
        raise _refused(field, f"at most {characters_max} characters, not {len(line)}")
    # C*: control, direction overrides, surrogates, private use, unassigned; Zl, Zp: ends of lines.
    if any(unicodedata.category(one)[0] == "C" or unicodedata.category(one) in {"Zl", "Zp"} for one in line):
        raise _refused(field, "one line of printable characters")
    return line


def _check_tax_id(particulars: Particulars) -> None:
    if particulars.country == "US" and not _US_TAX_ID.fullmatch(particulars.tax_id):
        raise _refused("tax_id", "a US number has nine digits: 123-45-6789 or 12-3456789")
    if not _TAX_ID.fullmatch(particulars.tax_id):
        raise _refused("tax_id", "3 to 24 letters and digits; spaces, '.', '/' and '-' may stand between")


def _birth_date(text: str, *, today: date) -> str:
    if not text:
        return ""
    try:
        born = date.fromisoformat(text)
    except ValueError as error:
        raise _refused("birth_date", "a date is written like 1984-03-21") from error
    if not _EARLIEST_BIRTH <= born <= today:
        raise _refused("birth_date", f"between {_EARLIEST_BIRTH} and today")
    return born.isoformat()


def _refused(field: str, why: str) -> PoolError:
    return PoolError(ErrorCode.INVALID_ARGUMENT, f"{field}: {why}", context={"field": field})
