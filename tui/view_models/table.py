"""The shape of a table: columns, and rows with stable keys: a refresh changes cells, not the cursor."""

from dataclasses import dataclass

from tui.view_models.panel import Line, Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column."""

    key: str
    label: str
    right: bool = False
    """Numbers stand at the right edge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row; `cells` in the order of the columns."""

    key: str
    cells: tuple[Span, ...]
    detail: tuple[Line, ...] = ()
    """What is said below the table when the cursor stands here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableView:
    """What a table shows."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: Line
    """One line above it: what is shown, how much, how fresh."""
