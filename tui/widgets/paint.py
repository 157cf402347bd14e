"""Turns toned text into what Textual paints. No markup is ever parsed: text from the network cannot style."""

from rich.text import Text
from textual.content import Content

from tui.view_models.panel import Line, Span, Tone

#: Theme colours, so that light, dark and NO_COLOR all work; the words never depend on them.
_STYLES = {
    Tone.PLAIN: "",
    Tone.STRONG: "bold",
    Tone.DIM: "$foreground-muted",
    Tone.GOOD: "bold $text-success",
    Tone.WARN: "bold $text-warning",
    Tone.BAD: "bold $text-error",
}
#: Table cells are Rich's, which know no theme variables: plain ANSI styles.
_CELL_STYLES = {
    Tone.PLAIN: "",
    Tone.STRONG: "bold",
    Tone.DIM: "dim",
    Tone.GOOD: "bold",
    Tone.WARN: "bold",
    Tone.BAD: "bold red",
}


def content(lines: tuple[Line, ...]) -> Content:
    """Return lines as one content."""
    return Content("\n").join(line_content(line) for line in lines)


def line_content(line: Line) -> Content:
    """Return one line."""
    return Content.assemble(*((span.text, _STYLES[span.tone]) for span in line))


def cell(span: Span, *, right: bool) -> Text:
    """Return a table cell."""
    return Text(
        span.text, style=_CELL_STYLES[span.tone], justify="right" if right else "left", no_wrap=True, end=""
    )
