"""The car: what it is plugged into, how full it is, when it will be full, and how old that knowledge is."""

from tui.facts import AgentFacts, SignalFacts
from tui.view_models.panel import Line, PanelView, Span, Tone, bad, dim, good, labelled, line, strong, warn
from tui.view_models.state import Dashboard, Link, Moment
from tui.view_models.text import (
    MICROSECONDS_PER_SECOND,
    ago,
    bar,
    clean,
    clock_time,
    duration,
    percent,
    power,
)

TITLE = "Car"
_BAR_WIDTH = 10
#: What a source's class means to its owner.
_CLASSES = {"A": "from the car", "B": "polled here", "C": "up to 60 s late"}
_PLUGS = {"plugged": "Plugged in", "unplugged": "Unplugged", "unknown": "Plug unknown"}


def car_panel(dashboard: Dashboard, at: Moment) -> PanelView:
    """Return what the car panel says."""
    link = dashboard.agent
    if link.facts is None:
        return PanelView(title=TITLE, lines=(line(dim("Only the agent in the car knows.")),))
    signals = link.facts.signals
    age_us = signals.age_ms * 1000 + link.age_us(at)
    lines = (
        _plug(signals),
        labelled("Battery", *_battery(signals)),
        labelled("Full", *_full(signals, at)),
        labelled("Source", _source(signals)),
        labelled("Heard", *_heard(signals, link, age_us)),
    )
    stale = not link.live or not signals.fresh
    return PanelView(
        title=TITLE, lines=lines, note="stale" if stale else "", tone=Tone.WARN if stale else Tone.PLAIN
    )


def _plug(signals: SignalFacts) -> Line:
    plug = _PLUGS.get(signals.plug, clean(signals.plug, characters_max=16).capitalize())
    if signals.moving:
        return line(warn("Moving"), dim(f" · {plug.lower()}"))
    if signals.discharging:
        return line(plug, ", ", warn("giving power back"))
    if signals.charge == "charging":
        at_power = f" at {power(signals.charge_power_w)}" if signals.charge_power_w is not None else ""
        return line(plug, ", ", good(f"charging{at_power}"))
    if signals.plug == "unplugged":
        return line(strong(plug))
    charge = {
        "unknown": "charging unknown",
        "idle": "not charging",
        "starting": "starting to charge",
        "complete": "charge complete",
        "stopped": "charging stopped",
        "nopower": "no power at the plug",
        "fault": "charging fault",
    }.get(signals.charge, clean(signals.charge, characters_max=16))
    return line(plug, ", ", bad(charge) if signals.charge == "fault" else strong(charge))


def _battery(signals: SignalFacts) -> tuple[Span | str, ...]:
    if signals.soc_percent is None:
        return (dim("unknown"),)
    limit = f" to {percent(signals.soc_limit_percent)}" if signals.soc_limit_percent is not None else ""
    return (
        strong(percent(signals.soc_percent)),
        f"{limit} ",
        dim(bar(signals.soc_percent / 100, width=_BAR_WIDTH)),
    )


def _full(signals: SignalFacts, at: Moment) -> tuple[Span | str, ...]:
    if signals.charge == "complete":
        return ("it is",)
    if signals.eta_full_s is None or signals.charge != "charging":
        return (dim("unknown") if signals.charge == "charging" else dim("not while it does not charge"),)
    full_us = at.now_us + int(signals.eta_full_s * MICROSECONDS_PER_SECOND)
    return (f"at {clock_time(full_us, at.zone)}", dim(f", in {duration(signals.eta_full_s)}"))


def _source(signals: SignalFacts) -> str:
    source = clean(signals.source, characters_max=20) or "none"
    meaning = _CLASSES.get(signals.source_class)
    return f"{source}, {meaning}" if meaning else source


def _heard(signals: SignalFacts, link: Link[AgentFacts], age_us: int) -> tuple[Span | str, ...]:
    age = ago(age_us)
    if not link.live:
        return (warn(f"{age}, agent lost"),)
    if not signals.fresh:
        return (warn(f"{age}: too old, counts as unknown"),)
    return (
        age,
        dim(f", class {clean(signals.source_class, characters_max=2)}") if signals.source_class else "",
    )
