"""The shape of what a panel says: a title, a note, lines of toned text. Widgets only paint it."""

from dataclasses import dataclass
from enum import StrEnum


class Tone(StrEnum):
    """How a piece of text is meant. It only ever repeats what the words say: never colour alone."""

    PLAIN = "plain"
    STRONG = "strong"
    DIM = "dim"
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a line."""

    text: str
    tone: Tone = Tone.PLAIN


Line = tuple[Span, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelView:
    """What one panel says."""

    title: str
    lines: tuple[Line, ...]
    note: str = ""
    """Stands in the lower border: where it comes from, how old it is."""
    tone: Tone = Tone.PLAIN
    """Of the whole panel; colours the border and repeats the words."""

    @property
    def plain(self) -> str:
        """The text alone, lines apart: for tests and for the help screen."""
        return "\n".join("".join(span.text for span in line) for line in self.lines)


#: Labels stand in a column of this width.
LABEL_WIDTH = 10


def line(*spans: Span | str) -> Line:
    """Make a line of spans and plain strings."""
    return tuple(Span(span) if isinstance(span, str) else span for span in spans)


def labelled(label: str, *spans: Span | str) -> Line:
    """Make a line that starts with a dim label in the label column."""
    return line(Span(f"{label:<{LABEL_WIDTH}}", Tone.DIM), *spans)


def strong(text: str) -> Span:
    """Text that answers the question."""
    return Span(text, Tone.STRONG)


def dim(text: str) -> Span:
    """Text that may be skipped."""
    return Span(text, Tone.DIM)


def good(text: str) -> Span:
    """Good news."""
    return Span(text, Tone.GOOD)


def warn(text: str) -> Span:
    """Something waits or is old."""
    return Span(text, Tone.WARN)


def bad(text: str) -> Span:
    """Something is wrong."""
    return Span(text, Tone.BAD)
