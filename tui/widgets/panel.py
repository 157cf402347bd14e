"""A bordered panel that paints a `PanelView`, can be focused, and knows its help."""

from typing import ClassVar

from textual.content import Content
from textual.widgets import Static

from tui.view_models.panel import PanelView, Tone
from tui.widgets.paint import content


class Panel(Static, can_focus=True):
    """One panel of the first screen.

    Attributes:
        HELP: What the panel says and where it comes from, for the help screen.
    """

    HELP: ClassVar[str] = ""

    def __init__(self, *, id: str) -> None:  # noqa: A002 - Textual's own name for it
        super().__init__(id=id, markup=False)
        self._view: PanelView | None = None

    @property
    def view(self) -> PanelView | None:
        """What is shown."""
        return self._view

    def show(self, view: PanelView) -> None:
        """Paint a view; an equal one costs nothing."""
        if view == self._view:
            return
        self._view = view
        self.border_title = Content(view.title)
        self.border_subtitle = Content(view.note)
        for tone in Tone:
            self.set_class(tone is view.tone, f"-{tone.value}")
        self.update(content(view.lines))


class NowPanel(Panel):
    """Whether the car computes now."""

    HELP = (
        "The answer first: whether this car's computer works for the pool at this moment. If it does not, "
        "the first sentence says why and the arrow says what would change that; other reasons follow. "
        "The words come from the agent in the car, the same as `car-agent status` prints. "
        "When the agent does not answer the panel says UNKNOWN: nobody here can know then."
    )


class CarPanel(Panel):
    """The car's signals."""

    HELP = (
        "What the car reports: plug, charging power, battery and charge limit, when it will be full. "
        "The source is where this comes from. Class A is pushed by the car, class B is asked for here, "
        "class C may be up to a minute late. A reading past its deadline counts as unknown, "
        "and unknown never computes."
    )


class ComputePanel(Panel):
    """The computing."""

    HELP = (
        "Power drawn by the computing, the current program (by its digest) and how far its task is, "
        "and how much of the lease is done. Unsent results are on disk and go out when the pool answers. "
        "Last stop is measured by the agent: from the decision to no worker alive; the promise is 250 ms. "
        "A note on missing sandbox parts names protections that this machine's kernel does not offer."
    )


class MoneyPanel(Panel):
    """The owner's money."""

    HELP = (
        "Net is gross minus the pool's fee, for all verified work; your electricity is not in it. "
        "Held is verified and inside the dispute window; available is yours to be paid; paid was sent. "
        "Work not yet verified may still be rejected. The bars are net per day (UTC); a dot is nothing. "
        "Press s for each receipt and statement, b for your bank account."
    )


class NewsPanel(Panel):
    """What happened."""

    HELP = "What happened on the car and on your account, newest first. Press e for the whole list."


class PoolPanel(Panel):
    """The pool in figures, for the operator."""

    HELP = "The pool in figures: posted price, cars, jobs and attempts by state, and the books' sums."
