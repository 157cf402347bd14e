"""The first screen.

It answers, in this order: does it compute and why not; my choice; the car; the computing; money; news.
"""

from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Footer, Static

from tui.keymap import bindings
from tui.screens.base import DashboardScreen
from tui.view_models.car import car_panel
from tui.view_models.compute import compute_panel
from tui.view_models.earnings import money_panel
from tui.view_models.header import header_line
from tui.view_models.news import last_event_line, news_panel
from tui.view_models.now import now_panel
from tui.view_models.opt_in import opt_in_box
from tui.view_models.state import Dashboard, Moment
from tui.widgets.opt_in_box import OptInBox
from tui.widgets.paint import line_content
from tui.widgets.panel import CarPanel, ComputePanel, MoneyPanel, NewsPanel, NowPanel


class OwnerScreen(DashboardScreen):
    """The owner's dashboard."""

    AUTO_FOCUS = "#now"
    BINDINGS = bindings(
        "pause", "opt-in", "vehicles", "events", "statement", "pair", "bank", "refresh", "help", "quit"
    )

    def compose(self) -> ComposeResult:
        yield Static(id="header", markup=False)
        with Horizontal(id="columns"):
            with VerticalScroll(id="panels", can_focus=False):
                yield NowPanel(id="now")
                yield OptInBox(id="opt-in")
                with Horizontal(id="pair"):
                    yield CarPanel(id="car")
                    yield ComputePanel(id="compute")
                yield MoneyPanel(id="money")
                yield NewsPanel(id="news-below")
            yield NewsPanel(id="news-beside")
        yield Static(id="last", markup=False)
        yield Footer(show_command_palette=False)

    def show(self, dashboard: Dashboard, at: Moment) -> None:
        self.query_one("#header", Static).update(line_content(header_line(dashboard, at)))
        self.query_one(NowPanel).show(now_panel(dashboard, at))
        self.query_one(OptInBox).show_box(opt_in_box(dashboard, at))
        self.query_one(CarPanel).show(car_panel(dashboard, at))
        self.query_one(ComputePanel).show(compute_panel(dashboard))
        self.query_one(MoneyPanel).show(money_panel(dashboard, at))
        for news in self.query(NewsPanel):
            news.show(news_panel(dashboard, at))
        self.query_one("#last", Static).update(line_content(last_event_line(dashboard, at)))

    def action_back(self) -> None:
        """Nothing is before the first screen."""
