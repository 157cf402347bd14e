"""The opt-in box: ticked by enter or a click, and never changed from here: it asks, the app answers."""

from textual import events
from textual.binding import Binding

from tui.messages import OptInWanted
from tui.view_models.opt_in import OptInView
from tui.widgets.panel import Panel


class OptInBox(Panel):
    """The box that the owner ticks. It shows what the agent has on its disk, not what was clicked."""

    HELP = (
        "Your consent, kept by the agent on the car's own disk. Ticking it asks once; unticking stops the "
        "computing at once and works without network. It outlives restarts and crashes. "
        "Pausing (space) is for now; the box is for good."
    )
    BINDINGS = [Binding("enter", "toggle_box", "On/off", show=False, id="toggle-box")]

    def __init__(self, *, id: str) -> None:  # noqa: A002 - Textual's own name for it
        super().__init__(id=id)
        self._box: OptInView | None = None

    def show_box(self, view: OptInView) -> None:
        """Paint the box."""
        self._box = view
        self.show(view.panel)

    def action_toggle_box(self) -> None:
        """Ask for the other state."""
        if self._box is not None and self._box.opted_in is not None:
            self.post_message(OptInWanted(opted_in=not self._box.opted_in))

    def on_click(self, event: events.Click) -> None:
        """A click is a tick."""
        event.stop()
        self.action_toggle_box()
