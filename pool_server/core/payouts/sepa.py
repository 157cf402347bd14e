"""What SEPA banks take in a payment: characters, names, addresses, countries. Pure.

The character set is that of the SEPA rulebooks' implementation guidelines. A name with other characters is
*rewritten* letter by letter, always the same way, and only ever as a proposal: the owner is shown the result
and confirms it by entering it. What has no Latin letters to stand for it (Arabic, Chinese, ...) is refused
and asked for as the bank writes it. Nothing is ever cut.
"""

import re
import unicodedata
from types import MappingProxyType


def _codes(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _letters(letters: str, written: str) -> dict[str, str]:
    return dict(zip(letters, written.split(), strict=True))


#: Letters, digits and punctuation that every SEPA bank takes, and the space.
SEPA_PUNCTUATION = frozenset("/-?:().,'+ ")
TOWN_CHARACTERS_MAX = 35
#: Largest amount of one SEPA transfer: 999 999 999.99.
SEPA_AMOUNT_MICROS_MAX = 999_999_999_990_000

#: Countries whose IBANs can be reached by SEPA credit transfer.
SEPA_COUNTRIES = _codes(
    "AD AL AT BE BG CH CY CZ DE DK EE ES FI FR GB GI GR HR HU IE IS IT LI LT LU LV MC MD ME MK MT NL NO "
    "PL PT RO RS SE SI SK SM VA"
)
#: Two-letter codes of ISO 3166-1, and Kosovo's.
COUNTRIES = _codes(
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT "
    "BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH "
    "ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT "
    "HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS "
    "LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI "
    "NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG "
    "SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG "
    "UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW"
)
#: Countries whose banks write ä, ö, ü as ae, oe, ue.
_UMLAUT_COUNTRIES = _codes("AT CH DE LI LU")
_UMLAUTS = MappingProxyType({"ä": "ae", "ö": "oe", "ü": "ue"})

#: Letters that are not a plain one with an accent, and how they are written.
_LATIN = _letters("ßæœøłđðþħıŋŧəĸ", "ss ae oe o l d d th h i n t e k")
#: Greek by ISO 843, type 2, without its rules for pairs.
_GREEK = _letters(
    "αβγδεζηθικλμνξοπρσςτυφχψω",
    "a v g d e z i th i k l m n x o p r s s t y f ch ps o",
)
#: Cyrillic as passports have it (ICAO 9303), Bulgarian, Serbian and Ukrainian letters included.
_CYRILLIC = _letters(
    "абвгдежзийклмнопрстуфхцчшщъыэюяєіїґђјљњћџѓќѕў",
    "a b v g d e zh z i i k l m n o p r s t u f kh ts ch sh shch ie y e iu ia ie i i g d j lj nj c dz g k "
    "dz u",
) | {"ь": ""}
#: Quotes, hyphens, dashes, blanks; & as banks' own tables have it.
_PUNCTUATION = (
    dict.fromkeys("\u2019\u2018\u02bc\u0060\u00b4", "'")
    | dict.fromkeys("\u2010\u2011\u2013\u2014_", "-")
    | {"&": "+", ";": ",", "\u00a0": " ", "\u202f": " "}
)
_REWRITTEN = MappingProxyType(_LATIN | _GREEK | _CYRILLIC | _PUNCTUATION)
_BIC = re.compile(r"[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}([A-Z0-9]{3})?")


def is_sepa_text(text: str) -> bool:
    """Say whether every character is one that all SEPA banks take."""
    return all((c.isascii() and c.isalnum()) or c in SEPA_PUNCTUATION for c in text)


def sepa_text_problem(text: str, *, characters_max: int) -> str:
    """Say what is wrong with a text as a bank would be given it, or return an empty string."""
    if not text or len(text) > characters_max:
        return f"1 to {characters_max} characters, not {len(text)}"
    if text != " ".join(text.split(" ")).strip() or "  " in text:
        return "no spaces at its ends, and none doubled"
    if not text[0].isalnum():
        return "begins with a letter or a digit"
    if not is_sepa_text(text):
        return "only letters A to Z, digits, spaces and / - ? : ( ) . , ' + reach every bank"
    return "" if any(character.isalpha() for character in text) else "has a letter"


def rewrite(text: str, *, country: str) -> tuple[str, str]:
    """Rewrite a text with the letters that all banks take.

    Args:
        text: Any text.
        country: Of the account: German-speaking banks write ä as ae, others as a.

    Returns:
        The text as a bank would be given it, and what is wrong: one of them is empty. Never cut.
    """
    parts: list[str] = []
    for character in unicodedata.normalize("NFC", text):
        written = _rewrite_character(character, umlauts=country in _UMLAUT_COUNTRIES)
        if written is None:
            name = unicodedata.name(character, "a control character").lower()
            return (
                "",
                f"no bank takes U+{ord(character):04X} ({name}); write it in Latin letters, as the bank does",
            )
        parts.append(written)
    return " ".join("".join(parts).split(" ")).strip(), ""


def _rewrite_character(character: str, *, umlauts: bool) -> str | None:
    if is_sepa_text(character):
        return character
    if unicodedata.category(character)[0] == "C":
        return None
    small = character.lower()
    written = (_UMLAUTS.get(small) if umlauts else None) or _REWRITTEN.get(small)
    if written is None:
        bare = "".join(c for c in unicodedata.normalize("NFKD", small) if not unicodedata.combining(c))
        written = "".join(_REWRITTEN.get(c, c) for c in bare)
        if not written or not is_sepa_text(written):
            return None
    return written if character == small else written[:1].upper() + written[1:]


def country_problem(country: str) -> str:
    """Say what is wrong with a country's code, or return an empty string."""
    return "" if country in COUNTRIES else "a country is two capital letters of ISO 3166, for example DE"


def bic_problem(bic: str, *, iban: str) -> str:
    """Say what is wrong with a BIC beside its IBAN, or return an empty string; no BIC is no problem."""
    if not bic:
        return ""
    if not _BIC.fullmatch(bic):
        return "a BIC has 8 or 11 capital letters and digits"
    # Overseas and Crown dependencies have codes of their own in BICs, and their mainland's in IBANs.
    if bic[4:6] != iban[:2] and iban[:2] not in {"FR", "GB", "FI", "NL", "DK", "ES", "PT", "NO"}:
        return f"a BIC of {bic[4:6]} does not go with an IBAN of {iban[:2]}"
    return ""
