"""The screens that list what the dashboard already knows: the owner's cars, and what happened."""

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Footer, Static

from tui.keymap import bindings
from tui.screens.base import DashboardScreen
from tui.view_models.fleet import vehicles_table
from tui.view_models.header import header_line
from tui.view_models.news import news_panel
from tui.view_models.state import Dashboard, Moment
from tui.widgets.keyed_table import KeyedTable
from tui.widgets.paint import line_content
from tui.widgets.panel import NewsPanel

_SHARED = ("back", "pause", "refresh", "help", "quit")


class VehiclesScreen(DashboardScreen):
    """All vehicles of the owner, as the pool knows them."""

    BINDINGS = bindings("pair", *_SHARED)

    def compose(self) -> ComposeResult:
        yield Static(id="header", markup=False)
        yield KeyedTable(id="vehicles")
        yield Footer(show_command_palette=False)

    def show(self, dashboard: Dashboard, at: Moment) -> None:
        self.query_one("#header", Static).update(line_content(header_line(dashboard, at)))
        self.query_one(KeyedTable).show(vehicles_table(dashboard, at))


class EventsScreen(DashboardScreen):
    """What happened on the car and on the account."""

    BINDINGS = bindings(*_SHARED)

    def compose(self) -> ComposeResult:
        yield Static(id="header", markup=False)
        with VerticalScroll(id="news-scroll"):
            yield NewsPanel(id="news-all")
        yield Footer(show_command_palette=False)

    def show(self, dashboard: Dashboard, at: Moment) -> None:
        self.query_one("#header", Static).update(line_content(header_line(dashboard, at)))
        self.query_one(NewsPanel).show(news_panel(dashboard, at))
