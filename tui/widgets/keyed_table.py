"""A table that changes cell by cell: rows keep their key, the cursor keeps its place."""

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import DataTable, Static

from tui.view_models.table import Row, TableView
from tui.widgets.paint import cell, content, line_content


class KeyedTable(Vertical):
    """A caption, a table, and the details of the row under the cursor."""

    def __init__(self, *, id: str) -> None:  # noqa: A002 - Textual's own name for it
        super().__init__(id=id)
        self._rows: dict[str, Row] = {}

    def compose(self) -> ComposeResult:
        yield Static(classes="caption", markup=False)
        yield DataTable(cursor_type="row", zebra_stripes=False)
        yield Static(classes="detail", markup=False)

    @property
    def table(self) -> "DataTable[object]":
        """The table inside."""
        return self.query_one(DataTable)

    def show(self, view: TableView) -> None:
        """Paint a view: new rows come, vanished ones go, cells that differ change."""
        table = self.table
        if not table.columns:
            for column in view.columns:
                table.add_column(column.label, key=column.key)
        self.query_one(".caption", Static).update(line_content(view.caption))
        wanted = {row.key: row for row in view.rows}
        if [key for key in self._rows if key in wanted] != [row.key for row in view.rows][: len(self._rows)]:
            # The order itself changed: only then is the table built anew.
            table.clear()
            self._rows = {}
        for key in [key for key in self._rows if key not in wanted]:
            table.remove_row(key)
            del self._rows[key]
        for row in view.rows:
            self._show_row(row, view)
        self._show_detail()

    def _show_row(self, row: Row, view: TableView) -> None:
        before = self._rows.get(row.key)
        spans = zip(view.columns, row.cells, strict=True)
        if before is None:
            self.table.add_row(*(cell(span, right=column.right) for column, span in spans), key=row.key)
        else:
            for (column, span), old in zip(spans, before.cells, strict=True):
                if span != old:
                    painted = cell(span, right=column.right)
                    self.table.update_cell(row.key, column.key, painted, update_width=True)
        self._rows[row.key] = row

    def on_data_table_row_highlighted(self) -> None:
        """Show what belongs to the row under the cursor."""
        self._show_detail()

    def _show_detail(self) -> None:
        detail = self.query_one(".detail", Static)
        table = self.table
        if not table.row_count:
            detail.update("")
            return
        key = table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value
        row = self._rows.get(key or "")
        detail.update(content(row.detail) if row else "")
