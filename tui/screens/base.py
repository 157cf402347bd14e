"""What every screen of the dashboard shares: it can be handed the dashboard, and go back."""

from textual.screen import Screen

from tui.messages import ScreenReady
from tui.view_models.state import Dashboard, Moment


class DashboardScreen(Screen[None]):
    """A screen that is made from the dashboard's state.

    Attributes:
        ready: True once its widgets stand; only then it may be handed a state.
    """

    ready = False

    def on_mount(self) -> None:
        """Ask for the state."""
        self.ready = True
        self.post_message(ScreenReady())

    def show(self, dashboard: Dashboard, at: Moment) -> None:
        """Paint the state; called on every change and every tick while the screen is up."""
        raise NotImplementedError

    def action_back(self) -> None:
        """Return to the screen before."""
        self.dismiss()
