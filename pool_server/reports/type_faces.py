"""The papers' two type faces, and what of a text they can show.

Everything that a paper prints passes `shown`: what the faces lack, or what reads from right to left, becomes
a box, so that nothing is silently missing. Which characters those are is written in `fonts/README.md`.
"""

import unicodedata
from functools import lru_cache
from pathlib import Path
from threading import Lock

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

from pool_protocol import amounts

REGULAR, BOLD = "ChargepoolSans", "ChargepoolSans-Bold"
BOX = "\N{WHITE SQUARE}"
NOT_SHOWN = (
    f"{BOX} stands for a character that this paper's type face cannot show; "
    "the account has it as it was typed."
)
_FILES = {REGULAR: "DejaVuSans.ttf", BOLD: "DejaVuSans-Bold.ttf"}
_FOLDER = Path(__file__).parent / "fonts"
_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})
#: Joiners and direction marks: nothing by themselves.
_SHOWN_AS_NOTHING = frozenset({"Cf"})
_SPACES = str.maketrans({"\u00a0": " ", "\u202f": " "})
_registering = Lock()


@lru_cache(maxsize=1)
def load() -> frozenset[int]:
    """Make the faces known to reportlab, once per process; return the code points that both can show."""
    with _registering:
        points: set[int] | None = None
        for name, file in _FILES.items():
            font = TTFont(name, str(_FOLDER / file))
            pdfmetrics.registerFont(font)
            glyphs = {point for point, glyph in font.face.charToGlyph.items() if glyph}
            points = glyphs if points is None else points & glyphs
        return frozenset(points or ())


def shown(text: str) -> str:
    """Return a text as it can be printed: on one line, unknown and right-to-left characters as boxes."""
    if text.isascii() and text.isprintable():
        return text  # what most cells are
    points = load()
    composed = unicodedata.normalize("NFC", text).translate(_SPACES)
    return "".join(one if _is_known(one, points) else _stand_in(one) for one in composed)


def can_show(text: str) -> bool:
    """Say whether a text can be printed as it is."""
    return BOX not in shown(text)


def printable_locale(locale: str) -> str:
    """Return a locale whose marks and month names can be printed: the given one, or the fallback."""
    known = amounts.locale_or_fallback(locale)
    # A date in each month, and an amount with every mark.
    month_us = 31 * 86_400_000_000
    sample = amounts.amount(-1_234_567_890_123, locale=known) + "".join(
        amounts.day(month * month_us + 1, locale=known) for month in range(12)
    )
    return known if can_show(sample) else amounts.FALLBACK_LOCALE


def width_of(text: str, *, bold: bool, size: float) -> float:
    """Return how wide a text that can be printed is, in points."""
    load()
    return float(pdfmetrics.stringWidth(text, BOLD if bold else REGULAR, size))


def fitted(text: str, width: float, *, bold: bool, size: float) -> str:
    """Cut a text to a width, with an ellipsis."""
    if width_of(text, bold=bold, size=size) <= width:
        return text
    while text and width_of(f"{text}…", bold=bold, size=size) > width:
        text = text[:-1]
    return f"{text}…"


def wrapped(text: str, width: float, *, bold: bool, size: float) -> list[str]:
    """Break a text into lines of a width; a word that is longer is broken where it must be."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}" if line else word
        if width_of(longer, bold=bold, size=size) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        while width_of(word, bold=bold, size=size) > width:
            cut = next(
                count
                for count in range(len(word) - 1, 0, -1)
                if count == 1 or width_of(word[:count], bold=bold, size=size) <= width
            )
            lines.append(word[:cut])
            word = word[cut:]  # noqa: PLW2901 - what is left of it
        line = word
    return [*lines, line] if line else lines


def _is_known(character: str, points: frozenset[int]) -> bool:
    return (
        ord(character) in points
        and unicodedata.bidirectional(character) not in _RIGHT_TO_LEFT
        and unicodedata.category(character) not in _SHOWN_AS_NOTHING
    )


def _stand_in(character: str) -> str:
    return "" if unicodedata.category(character) in _SHOWN_AS_NOTHING else BOX
