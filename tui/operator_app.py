"""`pool-tui --operator`: the pool in figures, fleet, jobs and payout runs. It watches; it changes nothing."""

from collections.abc import Callable, Mapping
from datetime import tzinfo

from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.widgets import Footer, TabbedContent, TabPane

from pool_protocol.clock import Clock
from tui.facts import OperatorFacts
from tui.follow import Pace, Retry, follow_poll
from tui.gateway import Gateways, OperatorGateway
from tui.keymap import bindings
from tui.messages import PoolHeard, PoolLost
from tui.view_models.operator import fleet_table, jobs_table, payouts_table, pool_panel
from tui.view_models.state import Link, Moment, Trouble
from tui.widgets.keyed_table import KeyedTable
from tui.widgets.panel import PoolPanel


class OperatorApp(App[None]):
    """The operator's dashboard."""

    TITLE = "Chargepool operator"
    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS = [*bindings("refresh", "quit"), Binding("ctrl+q", "quit", "Quit", show=False, priority=True)]

    def __init__(
        self,
        *,
        gateways: Callable[[], Gateways],
        clock: Clock,
        zone: tzinfo | None = None,
        keymap: Mapping[str, str] | None = None,
        pace: Pace | None = None,
        light: bool = False,
    ) -> None:
        """Take the collaborators, as `OwnerApp` does; `gateways` must have an operator's one."""
        super().__init__()
        self._make_gateways = gateways
        self._gateway: OperatorGateway | None = None
        self._clock = clock
        self._zone = zone
        self._keymap_by_id = dict(keymap or {})
        self._pace = pace or Pace()
        self._light = light
        self._retry = Retry(self._pace)
        self.pool: Link[OperatorFacts] = Link()

    def compose(self) -> ComposeResult:
        yield PoolPanel(id="pool")
        with TabbedContent(id="books"):
            with TabPane("Fleet", id="fleet-tab"):
                yield KeyedTable(id="fleet")
            with TabPane("Jobs", id="jobs-tab"):
                yield KeyedTable(id="jobs")
            with TabPane("Payouts", id="payouts-tab"):
                yield KeyedTable(id="payouts")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Connect and follow."""
        self.theme = "textual-light" if self._light else "textual-dark"
        self.set_keymap(self._keymap_by_id)
        self._gateway = self._make_gateways().operator
        if self._gateway is not None:
            self.pool = self.pool.connecting(self._gateway.place)
            self._follow(self._gateway)
        self.set_interval(self._pace.tick_s, self.show_state)
        self.show_state()

    async def on_unmount(self) -> None:
        """Let go of the connection."""
        if self._gateway is not None:
            await self._gateway.close()

    def show_state(self) -> None:
        """Hand the state down to the widgets."""
        at = Moment(now_us=self._clock.now_us(), monotonic_ns=self._clock.monotonic_ns(), zone=self._zone)
        self.query_one(PoolPanel).show(pool_panel(self.pool, at))
        self.query_one("#fleet", KeyedTable).show(fleet_table(self.pool, at))
        self.query_one("#jobs", KeyedTable).show(jobs_table(self.pool, at))
        self.query_one("#payouts", KeyedTable).show(payouts_table(self.pool, at))

    @work(exclusive=True, group="pool")
    async def _follow(self, gateway: OperatorGateway) -> None:
        async def ask() -> None:
            self.post_message(PoolHeard(await gateway.pool()))

        await follow_poll(
            ask=ask,
            lost=lambda error: self.post_message(PoolLost(error)),
            retry=self._retry,
            pace=self._pace,
        )

    @on(PoolHeard)
    def _heard(self, message: PoolHeard) -> None:
        self.pool = self.pool.heard(message.pool, monotonic_ns=self._clock.monotonic_ns())
        self.show_state()

    @on(PoolLost)
    def _lost(self, message: PoolLost) -> None:
        error = message.error
        trouble = Trouble(code=error.code, public=error.public, next_step=error.next_step)
        self.pool = self.pool.lost(trouble, refused=not error.unreachable)
        self.show_state()

    def action_refresh(self) -> None:
        """Ask again now."""
        self._retry.wake()
