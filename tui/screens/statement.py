"""Receipts, each checked on this machine, and the month's statement with its CSV."""

from pathlib import Path

from textual import on, work
from textual.app import ComposeResult
from textual.widgets import Footer, Static, TabbedContent, TabPane

from tui.facts import ReceiptFacts, StatementFacts
from tui.gateway import AccountGateway, GatewayError
from tui.keymap import bindings
from tui.messages import LoadFailed, ReceiptsLoaded, StatementLoaded
from tui.screens.base import DashboardScreen
from tui.view_models.books import month_of, receipts_table, shifted_month, statement_table
from tui.view_models.header import header_line
from tui.view_models.panel import Line, dim, line, warn
from tui.view_models.state import Dashboard, Moment
from tui.view_models.text import clean
from tui.widgets.keyed_table import KeyedTable
from tui.widgets.paint import line_content


class StatementScreen(DashboardScreen):
    """The owner's money in detail."""

    BINDINGS = bindings("back", "older", "newer", "save", "pause", "refresh", "help", "quit")

    def __init__(self, *, account: AccountGateway | None, folder: Path) -> None:
        """Take the pool, if there is one, and the folder that CSV files are written into."""
        super().__init__()
        self._account = account
        self._folder = folder
        self._receipts: tuple[ReceiptFacts, ...] = ()
        self._next_page = ""
        self._loaded = False
        self._month = ""
        self._statement: StatementFacts | None = None
        self._at: Moment | None = None
        self._currency = ""

    def compose(self) -> ComposeResult:
        yield Static(id="header", markup=False)
        with TabbedContent(id="books"):
            with TabPane("Receipts", id="receipts-tab"):
                yield KeyedTable(id="receipts")
            with TabPane("Statement", id="statement-tab"):
                yield KeyedTable(id="statement")
        yield Static(id="trouble", markup=False)
        yield Footer(show_command_palette=False)

    def show(self, dashboard: Dashboard, at: Moment) -> None:
        first, self._at = self._at is None, at
        if dashboard.account.facts is not None:
            self._currency = dashboard.account.facts.earnings.currency
        self.query_one("#header", Static).update(line_content(header_line(dashboard, at)))
        if first:
            self._month = month_of(at)
            self.reload()

    def reload(self) -> None:
        """Ask the pool again for what is shown."""
        if self._account is None:
            self._say(line("Not signed in to the pool. ", dim("Give --address, --ca-file and --token-file.")))
            return
        self._say(line(dim("Asking the pool …")))
        self._load_receipts(self._account, page_token="")
        self._load_statement(self._account, self._month)

    @property
    def _shows_statement(self) -> bool:
        return self.query_one(TabbedContent).active == "statement-tab"

    def action_older(self) -> None:
        """Load the next page of receipts, or go one month back."""
        if self._account is None:
            return
        if self._shows_statement:
            self._go_to_month(shifted_month(self._month, -1))
        elif self._next_page:
            self._load_receipts(self._account, page_token=self._next_page)
        else:
            self.notify("These are all your receipts.", markup=False)

    def action_newer(self) -> None:
        """Go one month forward, not beyond the present one."""
        if self._at is not None and self._shows_statement and self._month < month_of(self._at):
            self._go_to_month(shifted_month(self._month, 1))

    def _go_to_month(self, month: str) -> None:
        if self._account is not None:
            self._month = month
            self._load_statement(self._account, month)

    def action_save(self) -> None:
        """Write the month's CSV; an existing file is never overwritten."""
        if self._statement is None or not self._shows_statement:
            self.notify("Open the tab Statement first: its month is what is saved.", markup=False)
            return
        path = self._folder / f"chargepool-statement-{clean(self._statement.month, characters_max=7)}.csv"
        try:
            with path.open("xb") as file:
                file.write(self._statement.csv)
        except FileExistsError:
            self.notify(f"{path} exists already; it was left as it is.", severity="warning", markup=False)
        except OSError as error:
            self.notify(f"{path}: {error.strerror}", severity="error", markup=False)
        else:
            self.notify(f"Written: {path}", markup=False)

    @work(exclusive=True, group="receipts")
    async def _load_receipts(self, account: AccountGateway, *, page_token: str) -> None:
        try:
            page = await account.receipts(page_token=page_token, vehicle_id="")
        except GatewayError as error:
            self.post_message(LoadFailed(error))
        else:
            self.post_message(ReceiptsLoaded(page, first=not page_token))

    @work(exclusive=True, group="statement")
    async def _load_statement(self, account: AccountGateway, month: str) -> None:
        try:
            statement = await account.statement(month=month)
        except GatewayError as error:
            self.post_message(LoadFailed(error))
        else:
            self.post_message(StatementLoaded(statement))

    @on(ReceiptsLoaded)
    def _show_receipts(self, message: ReceiptsLoaded) -> None:
        if self._at is None:
            return
        self._say(())
        self._receipts = message.page.receipts if message.first else (*self._receipts, *message.page.receipts)
        self._next_page = message.page.next_page_token
        view = receipts_table(
            self._receipts, more=bool(self._next_page), currency=self._currency, at=self._at
        )
        self.query_one("#receipts", KeyedTable).show(view)

    @on(StatementLoaded)
    def _show_statement(self, message: StatementLoaded) -> None:
        if self._at is None or message.statement.month != self._month:
            return
        self._say(())
        self._statement = message.statement
        self.query_one("#statement", KeyedTable).show(statement_table(message.statement, at=self._at))

    @on(LoadFailed)
    def _show_trouble(self, message: LoadFailed) -> None:
        error = message.error
        self._say(line(warn(clean(error.public)), " ", dim(f"{clean(error.next_step)} r asks again.")))

    def _say(self, said: Line) -> None:
        self.query_one("#trouble", Static).update(line_content(said))
