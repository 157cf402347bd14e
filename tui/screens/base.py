"""What every screen of the dashboard shares: it can be handed the dashboard, and go back."""

from textual.screen import Screen

from tui.view_models.state import Dashboard, Moment


class DashboardScreen(Screen[None]):
    """A screen that is made from the dashboard's state."""

    def show(self, dashboard: Dashboard, at: Moment) -> None:
        """Paint the state; called on every change and every tick while the screen is up."""
        raise NotImplementedError

    def action_back(self) -> None:
        """Return to the screen before."""
        self.dismiss()
