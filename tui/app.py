"""The dashboard's app: owns the state, starts the followers, throws the switches.

Workers call gateways and post messages; the handlers here are the only place where the state changes, and
each change is handed down to the screen that is up. Nothing here decides what a panel says.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import tzinfo
from pathlib import Path

from textual import on, work
from textual.app import App
from textual.binding import Binding

from pool_protocol.clock import Clock
from tui import keymap as keys
from tui.facts import AgentFacts, BankFacts
from tui.follow import Pace, Retry, follow_poll, follow_stream
from tui.gateway import AccountGateway, AgentGateway, GatewayError, Gateways
from tui.messages import (
    AccountHeard,
    AccountLost,
    AgentHeard,
    AgentLost,
    BankHeard,
    ChangeDone,
    ChangeFailed,
    OptInWanted,
    ScreenReady,
)
from tui.screens.base import DashboardScreen
from tui.screens.dialogs import BankDialog, HelpScreen, OptInQuestion, PairDialog
from tui.screens.lists import EventsScreen, VehiclesScreen
from tui.screens.owner import OwnerScreen
from tui.screens.statement import StatementScreen
from tui.view_models.help_text import KeyHelp, help_view
from tui.view_models.opt_in import stop_notice
from tui.view_models.state import Dashboard, Moment, Trouble
from tui.view_models.text import clean
from tui.widgets.panel import Panel

WIDE_COLUMNS = 120
TALL_ROWS = 30


class OwnerApp(App[None]):
    """`pool-tui` for an owner."""

    TITLE = "Chargepool"
    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (76, "-normal"), (WIDE_COLUMNS, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-low"), (TALL_ROWS, "-tall")]
    BINDINGS = [Binding("ctrl+q", "quit", "Quit", show=False, priority=True)]

    def __init__(
        self,
        *,
        gateways: Callable[[], Gateways],
        clock: Clock,
        zone: tzinfo | None = None,
        keymap: Mapping[str, str] | None = None,
        pace: Pace | None = None,
        folder: Path | None = None,
        light: bool = False,
    ) -> None:
        """Take the collaborators.

        Args:
            gateways: Makes the connections; called once, inside the running loop.
            clock: Dates events and ages readings.
            zone: Where the reader lives; None is the machine's own zone.
            keymap: Action id -> keys, from the keymap file.
            pace: How often things are asked.
            folder: Where CSV files are written; the working directory by default.
            light: Start with the light theme.
        """
        super().__init__()
        self._make_gateways = gateways
        self._gateways = Gateways()
        self._clock = clock
        self._zone = zone
        self._keymap_by_id = dict(keymap or {})
        self._pace = pace or Pace()
        self._folder = folder or Path()
        self._light = light
        self._agent_retry = Retry(self._pace)
        self._account_retry = Retry(self._pace)
        self.dashboard = Dashboard()

    # --- start and end ---

    def on_mount(self) -> None:
        """Open the first screen, connect, follow."""
        self.theme = "textual-light" if self._light else "textual-dark"
        self.set_keymap(self._keymap_by_id)
        self._gateways = self._make_gateways()
        self.push_screen(OwnerScreen())
        state = self.dashboard
        if self._gateways.agent is not None:
            state = replace(state, agent=state.agent.connecting(self._gateways.agent.place))
            self._follow_agent(self._gateways.agent)
        if self._gateways.account is not None:
            state = replace(state, account=state.account.connecting(self._gateways.account.place))
            self._follow_account(self._gateways.account)
        self.dashboard = state
        self.set_interval(self._pace.tick_s, self.show_state)

    async def on_unmount(self) -> None:
        """Let go of the connections."""
        for gateway in (self._gateways.agent, self._gateways.account):
            if gateway is not None:
                await gateway.close()

    def moment(self) -> Moment:
        """Return now."""
        return Moment(now_us=self._clock.now_us(), monotonic_ns=self._clock.monotonic_ns(), zone=self._zone)

    def show_state(self) -> None:
        """Hand the state down to the screen that is up (and to the one under a dialog)."""
        at = self.moment()
        for screen in self.screen_stack:
            if isinstance(screen, DashboardScreen) and screen.ready:
                screen.show(self.dashboard, at)

    @on(ScreenReady)
    def _screen_ready(self) -> None:
        self.show_state()

    def _become(self, dashboard: Dashboard) -> None:
        self.dashboard = dashboard
        self.show_state()

    # --- followers: they only post ---

    @work(exclusive=True, group="agent")
    async def _follow_agent(self, agent: AgentGateway) -> None:
        await follow_stream(
            watch=agent.watch,
            ask=agent.status,
            heard=lambda facts: self.post_message(AgentHeard(facts)),
            lost=lambda error: self.post_message(AgentLost(error)),
            retry=self._agent_retry,
            pace=self._pace,
        )

    @work(exclusive=True, group="account")
    async def _follow_account(self, account: AccountGateway) -> None:
        async def ask() -> None:
            self.post_message(AccountHeard(await account.account()))
            if self.dashboard.bank is None:
                # Asked once, for the hint that none is set; the account is no less alive without it.
                with suppress(GatewayError):
                    self.post_message(BankHeard(await account.bank()))

        await follow_poll(
            ask=ask,
            lost=lambda error: self.post_message(AccountLost(error)),
            retry=self._account_retry,
            pace=self._pace,
        )

    @work(exclusive=True, group="agent-once")
    async def _ask_agent(self, agent: AgentGateway) -> None:
        with suppress(GatewayError):  # the follower says what is wrong, and goes on trying
            self.post_message(AgentHeard(await agent.status()))

    @on(AgentHeard)
    def _agent_heard(self, message: AgentHeard) -> None:
        self._take_agent(message.agent)

    def _take_agent(self, agent: AgentFacts) -> None:
        link = self.dashboard.agent.heard(agent, monotonic_ns=self._clock.monotonic_ns())
        self._become(replace(self.dashboard, agent=link))

    @on(AgentLost)
    def _agent_lost(self, message: AgentLost) -> None:
        link = self.dashboard.agent.lost(_trouble(message.error), refused=not message.error.unreachable)
        self._become(replace(self.dashboard, agent=link))

    @on(AccountHeard)
    def _account_heard(self, message: AccountHeard) -> None:
        link = self.dashboard.account.heard(message.account, monotonic_ns=self._clock.monotonic_ns())
        self._become(replace(self.dashboard, account=link))

    @on(AccountLost)
    def _account_lost(self, message: AccountLost) -> None:
        link = self.dashboard.account.lost(_trouble(message.error), refused=not message.error.unreachable)
        self._become(replace(self.dashboard, account=link))

    @on(BankHeard)
    def _bank_heard(self, message: BankHeard) -> None:
        self._become(replace(self.dashboard, bank=message.bank))

    # --- switches ---

    def action_toggle_pause(self) -> None:
        """Pause, or end a pause."""
        agent = self._live_agent()
        if agent is None:
            return
        gateway, facts = agent
        if facts.paused:
            self._busy("resuming")
            self._resume(gateway)
        else:
            self._busy("pausing")
            self._pause(gateway)

    def action_toggle_opt_in(self) -> None:
        """Ask to opt in, or opt out at once."""
        agent = self._live_agent()
        if agent is not None:
            self._want_opt_in(OptInWanted(opted_in=not agent[1].opted_in))

    @on(OptInWanted)
    def _want_opt_in(self, message: OptInWanted) -> None:
        agent = self._live_agent()
        if agent is None:
            return
        gateway, _ = agent
        if not message.opted_in:
            self._busy("opting out")
            self._set_opt_in(gateway, opted_in=False)
            return

        def answered(yes: bool | None) -> None:  # noqa: FBT001 - Textual calls it with the screen's result
            if yes:
                self._busy("opting in")
                self._set_opt_in(gateway, opted_in=True)

        self.push_screen(OptInQuestion(), answered)

    def _live_agent(self) -> tuple[AgentGateway, AgentFacts] | None:
        gateway, link = self._gateways.agent, self.dashboard.agent
        if self.dashboard.busy:
            # One switch at a time: a second call would cut off the first, and nobody would know how it ended.
            self.notify(f"Still {self.dashboard.busy}.", timeout=1.5, markup=False)
            return None
        if gateway is not None and link.live and link.facts is not None:
            return gateway, link.facts
        self.notify(
            "No agent answers on this computer, so nothing can be switched from here.",
            severity="warning",
            markup=False,
        )
        return None

    def _busy(self, doing: str) -> None:
        self._become(replace(self.dashboard, busy=doing))

    @work(exclusive=True, group="switch")
    async def _pause(self, gateway: AgentGateway) -> None:
        try:
            stop = await gateway.pause(duration_s=0)
        except GatewayError as error:
            self.post_message(ChangeFailed(error))
        else:
            self.post_message(ChangeDone(agent=stop.agent, notice=stop_notice("Paused", stop.stop_ms)))

    @work(exclusive=True, group="switch")
    async def _resume(self, gateway: AgentGateway) -> None:
        try:
            agent = await gateway.resume()
        except GatewayError as error:
            self.post_message(ChangeFailed(error))
        else:
            self.post_message(ChangeDone(agent=agent, notice="Resumed."))

    @work(exclusive=True, group="switch")
    async def _set_opt_in(self, gateway: AgentGateway, *, opted_in: bool) -> None:
        try:
            stop = await gateway.set_opt_in(opted_in=opted_in)
        except GatewayError as error:
            self.post_message(ChangeFailed(error))
        else:
            notice = "Opted in. It starts when the car charges." if opted_in else ""
            self.post_message(
                ChangeDone(agent=stop.agent, notice=notice or stop_notice("Opted out", stop.stop_ms))
            )

    @on(ChangeDone)
    def _change_done(self, message: ChangeDone) -> None:
        self.dashboard = replace(self.dashboard, busy="")
        self._take_agent(message.agent)
        self.notify(message.notice, markup=False)

    @on(ChangeFailed)
    def _change_failed(self, message: ChangeFailed) -> None:
        self._busy("")
        error = message.error
        # Without an answer the switch may have been thrown or not: the agent's next word tells.
        title = "No answer: look again before you trust it" if error.unreachable else "Nothing was changed"
        self.notify(
            f"{clean(error.public)} {clean(error.next_step)}", title=title, severity="error", markup=False
        )

    # --- where to go ---

    def action_go(self, place: str) -> None:
        """Open a screen over the first one."""
        screen: DashboardScreen
        match place:
            case "vehicles":
                screen = VehiclesScreen()
            case "events":
                screen = EventsScreen()
            case _:
                screen = StatementScreen(account=self._gateways.account, folder=self._folder)
        self.push_screen(screen)

    def action_refresh(self) -> None:
        """Ask everyone again now."""
        self._agent_retry.wake()
        self._account_retry.wake()
        if self._gateways.agent is not None and self.dashboard.agent.live:
            self._ask_agent(self._gateways.agent)
        if isinstance(self.screen, StatementScreen):
            self.screen.reload()
        self.notify("Asking again.", timeout=1.5, markup=False)

    def action_pair(self) -> None:
        """Open the pairing dialog."""
        account = self._signed_in()
        if account is not None:
            self.push_screen(
                PairDialog(account=account, at=self.moment()), lambda _: self._account_retry.wake()
            )

    def action_bank(self) -> None:
        """Open the bank dialog."""
        account = self._signed_in()
        if account is None:
            return
        facts = self.dashboard.account.facts
        currency = facts.earnings.currency if facts else ""

        def kept(bank: BankFacts | None) -> None:
            if bank is not None:
                self.post_message(BankHeard(bank))
                self.notify("Saved: the pool has checked it.", markup=False)

        self.push_screen(BankDialog(account=account, bank=self.dashboard.bank, currency=currency), kept)

    def _signed_in(self) -> AccountGateway | None:
        if self._gateways.account is None:
            self.notify(
                "Not signed in to the pool: give --address, --ca-file and --token-file.",
                severity="warning",
                markup=False,
            )
        return self._gateways.account

    def action_help(self) -> None:
        """Explain the panel under the cursor, and the keys of this screen."""
        panel = self.focused if isinstance(self.focused, Panel) else None
        in_force: dict[str, list[str]] = {}
        for key, active in self.screen.active_bindings.items():
            if active.binding.id in keys.ACTIONS:
                in_force.setdefault(active.binding.id, []).append(key)
        entries = [
            KeyHelp(keys=",".join(in_force[action.id]), explained=action.explained)
            for action in keys.ACTIONS.values()
            if action.id in in_force
        ]
        view = help_view(panel=panel.view if panel else None, about=panel.HELP if panel else "", keys=entries)
        self.push_screen(HelpScreen(view))


def _trouble(error: GatewayError) -> Trouble:
    return Trouble(code=error.code, public=error.public, next_step=error.next_step)
