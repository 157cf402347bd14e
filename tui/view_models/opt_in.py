"""The box that the owner ticks, and the words of the one question asked before it."""

from dataclasses import dataclass

from tui.view_models.panel import Line, PanelView, Span, Tone, dim, good, line, strong, warn
from tui.view_models.state import Dashboard, Moment
from tui.view_models.text import milliseconds, moment

TITLE = "Your choice"
#: The terms, in one line; shown before the only confirmation there is.
TERMS = (
    "Only while this car charges, its computer works for the pool. "
    "You are paid for verified work. Stop any time."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptInView:
    """The box."""

    panel: PanelView
    opted_in: bool | None
    """None when nobody knows."""
    changeable: bool


def opt_in_box(dashboard: Dashboard, at: Moment) -> OptInView:
    """Return what the box says."""
    link = dashboard.agent
    agent = link.facts
    if agent is None:
        lines: tuple[Line, ...] = (
            line(dim("[?] Compute while this car charges"), dim("   unknown without the agent")),
        )
        return OptInView(panel=PanelView(title=TITLE, lines=lines), opted_in=None, changeable=False)
    since = ""
    if agent.opt_in_changed_us:
        since = f" since {moment(agent.opt_in_changed_us, at.zone, now_us=at.now_us)}"
    box, word = ("[x]", good("ON")) if agent.opted_in else ("[ ]", strong("OFF"))
    spans: list[Span | str] = [strong(f"{box} Compute while this car charges"), "   ", word, since]
    if agent.paused:
        spans.append(warn("   paused"))
    stale = "" if link.live else "stale"
    tone = Tone.GOOD if agent.opted_in and link.live else Tone.PLAIN
    return OptInView(
        panel=PanelView(title=TITLE, lines=(line(*spans),), note=stale, tone=tone),
        opted_in=agent.opted_in,
        changeable=link.live,
    )


def stop_notice(what: str, stop_ms: float) -> str:
    """Return what is said after a pause or an opt-out: how long the stop took, as the agent measured it."""
    if stop_ms <= 0:
        return f"{what}. Nothing was running."
    return f"{what}. The computing stopped in {milliseconds(stop_ms)} (measured)."
