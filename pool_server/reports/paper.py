"""A paper as values, and its PDF: header, facts, tables over pages, notes, page numbers.

The same paper gives the same bytes: the file carries no time of its making and no random id. What a paper
says is decided by whoever builds the `Paper`; here it is only set. Amounts and dates arrive as text.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from reportlab.lib.pagesizes import A4, landscape
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas

from pool_server.reports import type_faces
from pool_server.reports.type_faces import BOLD, REGULAR, fitted, shown, width_of, wrapped

_MARGIN = 16 * mm
_FOOT = 17 * mm
_SIZE, _SMALL, _TITLE = 8.5, 7.2, 17.0
_LEADING, _ROW = 11.5, 11.5
_GREY, _LINE, _TINT = (0.38, 0.38, 0.38), (0.78, 0.78, 0.78), (0.955, 0.965, 0.975)
_INK = (0.08, 0.10, 0.12)
_GAP = 9.0
#: Between two cells, so that numbers of neighbouring columns never touch.
_GUTTER = 7.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table."""

    title: str
    share: float
    """Its part of the table's width."""
    is_number: bool = False
    """Set to the right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under a heading; its header is repeated on every page that it reaches."""

    heading: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    totals: tuple[tuple[str, ...], ...] = ()
    """Rows at the end, bold, under a line."""
    when_empty: str = "None."


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """One paper."""

    title: str
    subtitle: str
    issuer: tuple[str, ...]
    """Lines of who gives it out; the first is bold."""
    recipient: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    """Names and values, beside the recipient."""
    figures: tuple[tuple[str, str], ...] = ()
    """The few amounts that matter most, in boxes under the header."""
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    """Paragraphs after the tables."""
    terms: tuple[str, ...] = ()
    """Paragraphs in small type at the end."""
    footer: str = ""
    """On every page, left of the page's number."""
    is_landscape: bool = False


def render(paper: Paper) -> bytes:
    """Return the paper's PDF: A4, the faces embedded, the same bytes for the same paper."""
    type_faces.load()
    ready = _as_shown(paper)
    # Once to count the pages, once to print them with their numbers.
    counted = _Sheet(ready)
    counted.lay_out()
    return _Sheet(ready, page_count=counted.page).draw()


def pages_of(content: bytes) -> int:
    """Return how many pages a rendered paper has."""
    return content.count(b"/Type /Page\n")


@dataclass(slots=True)
class _Sheet:
    """The page that is being drawn."""

    paper: Paper
    page_count: int = 0
    page: int = 1
    _y: float = 0.0
    _width: float = 0.0
    _height: float = 0.0
    _buffer: io.BytesIO = field(default_factory=io.BytesIO)
    _canvas: Any = None
    """None while pages are only counted."""

    def __post_init__(self) -> None:
        self._width, self._height = landscape(A4) if self.paper.is_landscape else A4

    def draw(self) -> bytes:
        size = (self._width, self._height)
        self._canvas = Canvas(self._buffer, pagesize=size, invariant=1, pageCompression=1)
        self._canvas.setTitle(f"{self.paper.title} {self.paper.subtitle}")
        self._canvas.setAuthor(self.paper.issuer[0] if self.paper.issuer else "")
        self._canvas.setCreator("Chargepool")
        self.lay_out()
        self._canvas.save()
        return self._buffer.getvalue()

    def lay_out(self) -> None:
        """Put everything on its page; `page` is then the last one."""
        self._y = self._height - _MARGIN
        self._header()
        for table in self.paper.tables:
            self._table(table)
        self._paragraphs(self.paper.notes, size=_SIZE, colour=_INK)
        self._paragraphs(self.paper.terms, size=_SMALL, colour=_GREY)
        self._foot()

    # --- parts ----------------------------------------------------------------------------------

    def _header(self) -> None:
        left, right = _MARGIN, self._width - _MARGIN
        half = (right - left) / 2 - _GAP
        self._text(left, self._y - _TITLE, self.paper.title, size=_TITLE, bold=True)
        y = self._y - 9
        for number, line in enumerate(self.paper.issuer):
            first = number == 0
            self._text(right, y, fitted(line, half, bold=first, size=_SIZE), bold=first, right=True)
            y -= _LEADING
        self._text(left, self._y - _TITLE - 16, self.paper.subtitle, size=11, colour=_GREY)
        self._y = min(y, self._y - _TITLE - 22) - 6
        self._rule(self._y)
        self._y -= 16
        recipient_y = facts_y = self._y
        for number, line in enumerate(self.paper.recipient):
            for part in wrapped(line, half, bold=number == 0, size=_SIZE + 1):
                self._text(left, recipient_y, part, size=_SIZE + 1, bold=number == 0)
                recipient_y -= _LEADING + 1
        names = max((width_of(name, bold=False, size=_SIZE) for name, _ in self.paper.facts), default=0)
        start = left + half + 2 * _GAP
        for name, value in self.paper.facts:
            self._text(start, facts_y, name, colour=_GREY)
            for part in wrapped(value, right - start - names - _GAP, bold=False, size=_SIZE) or [""]:
                self._text(start + names + _GAP, facts_y, part)
                facts_y -= _LEADING
        self._y = min(recipient_y, facts_y) - 4
        self._figures()

    def _figures(self) -> None:
        if not self.paper.figures:
            return
        left, total = _MARGIN, self._width - 2 * _MARGIN
        each = (total - _GUTTER * (len(self.paper.figures) - 1)) / len(self.paper.figures)
        for place, (name, value) in enumerate(self.paper.figures):
            x = left + place * (each + _GUTTER)
            self._fill(x, self._y - 34, each, 34)
            room, size = each - 12, 11.0
            label = fitted(name, room, bold=False, size=_SMALL)
            self._text(x + 6, self._y - 12, label, size=_SMALL, colour=_GREY)
            while size > _SMALL / 2 and width_of(value, bold=True, size=size) > room:
                size -= 0.5
            self._text(x + 6, self._y - 27, value, size=size, bold=True)
        self._y -= 34 + 16

    def _table(self, table: Table) -> None:
        # A heading never stands alone at the foot of a page.
        self._need(4 * _ROW + 16)
        self._text(_MARGIN, self._y - 10, table.heading, size=10, bold=True)
        self._y -= 18
        self._columns(table)
        if not table.rows:
            self._text(_MARGIN + 3, self._y - 8.5, table.when_empty, colour=_GREY)
            self._y -= _ROW
        for number, row in enumerate(table.rows):
            if self._need(_ROW):
                self._columns(table)
            if number % 2:
                self._fill(_MARGIN, self._y - _ROW, self._width - 2 * _MARGIN, _ROW)
            self._row(table, row, bold=False)
        if table.totals:
            if self._need(_ROW * len(table.totals) + 4):
                self._columns(table)
            self._rule(self._y - 1)
            self._y -= 2
            for row in table.totals:
                self._row(table, row, bold=True)
        self._y -= 14

    def _columns(self, table: Table) -> None:
        for column, x, width in self._cells(table):
            title = fitted(column.title, width, bold=True, size=_SMALL)
            at = x + width if column.is_number else x
            self._text(at, self._y - 8.5, title, size=_SMALL, bold=True, colour=_GREY, right=column.is_number)
        self._y -= _ROW
        self._rule(self._y)
        self._y -= 1

    def _row(self, table: Table, row: Sequence[str], *, bold: bool) -> None:
        if self._canvas is None:
            self._y -= _ROW
            return
        for (column, x, width), text in zip(self._cells(table), row, strict=True):
            size = _SIZE
            # A figure is never cut: it is set smaller until it fits.
            while column.is_number and size > 4 and width_of(text, bold=bold, size=size) > width:
                size -= 0.25
            cut = text if column.is_number else fitted(text, width, bold=bold, size=size)
            at = x + width if column.is_number else x
            self._text(at, self._y - 8.5, cut, size=size, bold=bold, right=column.is_number)
        self._y -= _ROW

    def _cells(self, table: Table) -> Iterator[tuple[Column, float, float]]:
        total = self._width - 2 * _MARGIN - _GUTTER * (len(table.columns) - 1) - 6
        shares = sum(column.share for column in table.columns)
        x = _MARGIN + 3
        for column in table.columns:
            width = total * column.share / shares
            yield column, x, width
            x += width + _GUTTER

    def _paragraphs(self, paragraphs: Sequence[str], *, size: float, colour: tuple[float, ...]) -> None:
        leading = size * 1.36
        for paragraph in paragraphs:
            for line in wrapped(paragraph, self._width - 2 * _MARGIN, bold=False, size=size):
                self._need(leading)
                self._text(_MARGIN, self._y - size, line, size=size, colour=colour)
                self._y -= leading
            self._y -= leading * 0.45

    # --- pages and strokes ----------------------------------------------------------------------

    def _need(self, height: float) -> bool:
        """Turn the page unless so much is left of it; True when it was turned."""
        if self._y - height >= _FOOT + 4:
            return False
        self._foot()
        if self._canvas is not None:
            self._canvas.showPage()
        self.page += 1
        self._y = self._height - _MARGIN
        left = f"{self.paper.title} · {self.paper.subtitle}"
        self._text(_MARGIN, self._y - 6, left, size=_SMALL, colour=_GREY)
        self._y -= 18
        return True

    def _foot(self) -> None:
        right = self._width - _MARGIN
        self._rule(_FOOT - 4)
        number = f"Page {self.page} of {self.page_count or self.page}"
        room = right - _MARGIN - width_of(number, bold=False, size=_SMALL) - _GAP
        footer = fitted(self.paper.footer, room, bold=False, size=_SMALL)
        self._text(_MARGIN, _FOOT - 14, footer, size=_SMALL, colour=_GREY)
        self._text(right, _FOOT - 14, number, size=_SMALL, colour=_GREY, right=True)

    def _text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = _SIZE,
        bold: bool = False,
        colour: tuple[float, ...] = _INK,
        right: bool = False,
    ) -> None:
        if self._canvas is None or not text:
            return
        self._canvas.setFillColorRGB(*colour)
        self._canvas.setFont(BOLD if bold else REGULAR, size)
        (self._canvas.drawRightString if right else self._canvas.drawString)(x, y, text)

    def _rule(self, y: float) -> None:
        if self._canvas is None:
            return
        self._canvas.setStrokeColorRGB(*_LINE)
        self._canvas.setLineWidth(0.6)
        self._canvas.line(_MARGIN, y, self._width - _MARGIN, y)

    def _fill(self, x: float, y: float, width: float, height: float) -> None:
        if self._canvas is None:
            return
        self._canvas.setFillColorRGB(*_TINT)
        self._canvas.rect(x, y, width, height, stroke=0, fill=1)


def _as_shown(paper: Paper) -> Paper:
    """Return a paper whose every text can be printed, with a note where something could not."""

    def pairs(values: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        return tuple((shown(name), shown(value)) for name, value in values)

    def lines(values: Sequence[str]) -> tuple[str, ...]:
        return tuple(shown(value) for value in values)

    ready = replace(
        paper,
        title=shown(paper.title),
        subtitle=shown(paper.subtitle),
        issuer=lines(paper.issuer),
        recipient=lines(paper.recipient),
        facts=pairs(paper.facts),
        figures=pairs(paper.figures),
        tables=tuple(
            replace(
                table,
                heading=shown(table.heading),
                rows=tuple(lines(row) for row in table.rows),
                totals=tuple(lines(row) for row in table.totals),
            )
            for table in paper.tables
        ),
        notes=lines(paper.notes),
        terms=lines(paper.terms),
        footer=shown(paper.footer),
    )
    if type_faces.BOX not in repr(ready):
        return ready
    return replace(ready, notes=(*ready.notes, type_faces.NOT_SHOWN))
