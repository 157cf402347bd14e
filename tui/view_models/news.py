"""What happened: on the car and on the account, newest first, in one list."""

from tui.facts import EventFacts
from tui.view_models.panel import Line, PanelView, dim, line
from tui.view_models.state import Dashboard, Moment
from tui.view_models.text import clean, moment

TITLE = "What happened"
EVENTS_MAX = 200


def all_events(dashboard: Dashboard) -> tuple[EventFacts, ...]:
    """Return all known events, newest first; of two at one moment the car's own comes first."""
    car = dashboard.agent.facts.events if dashboard.agent.facts else ()
    pool = dashboard.account.facts.events if dashboard.account.facts else ()
    return tuple(sorted((*car, *pool), key=lambda event: -event.at_us)[:EVENTS_MAX])


def event_line(event: EventFacts, at: Moment, *, when_width: int = 0) -> Line:
    """Return one event as a line: when, who says so, what."""
    when = f"{moment(event.at_us, at.zone, now_us=at.now_us):>{when_width}}"
    origin = clean(event.origin, characters_max=4)
    return line(dim(f"{when}  {origin:<4}  "), clean(event.message) or clean(event.code))


def last_event_line(dashboard: Dashboard, at: Moment) -> Line:
    """Return the newest event as one line."""
    events = all_events(dashboard)
    if not events:
        return line(dim("Last: nothing yet"))
    return line(dim("Last: "), *event_line(events[0], at))


def news_panel(dashboard: Dashboard, at: Moment) -> PanelView:
    """Return the list of events."""
    events = all_events(dashboard)
    width = max((len(moment(event.at_us, at.zone, now_us=at.now_us)) for event in events), default=0)
    lines = tuple(event_line(event, at, when_width=width) for event in events)
    if not lines:
        lines = (line(dim("Nothing yet.")),)
    return PanelView(title=TITLE, lines=lines)
