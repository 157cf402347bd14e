"""The top line: which car, and whether the agent and the pool answer."""

from tui.facts import AccountFacts, AgentFacts
from tui.view_models.panel import Line, Span, bad, dim, good, line, strong, warn
from tui.view_models.state import Dashboard, Link, Moment, Phase
from tui.view_models.text import ago, clean, short_id


def header_line(dashboard: Dashboard, at: Moment) -> Line:
    """Return the top line."""
    return line(
        strong("Chargepool"),
        dim("  "),
        _car_name(dashboard),
        dim("   agent "),
        _link_word(dashboard.agent, at),
        dim(" · pool "),
        _link_word(dashboard.account, at),
        *_car_link(dashboard),
    )


def _car_name(dashboard: Dashboard) -> Span:
    agent, account = dashboard.agent.facts, dashboard.account.facts
    if agent is None:
        return dim("")
    if not agent.vehicle_id:
        return warn("not paired")
    vehicles = account.vehicles if account else ()
    label = next((vehicle.label for vehicle in vehicles if vehicle.vehicle_id == agent.vehicle_id), "")
    return Span(clean(label, characters_max=24) or short_id(agent.vehicle_id))


def _link_word(link: Link[AgentFacts] | Link[AccountFacts], at: Moment) -> Span:
    match link.phase:
        case Phase.UNSET:
            return dim("not set up")
        case Phase.CONNECTING:
            return dim("connecting")
        case Phase.LIVE:
            return good("live")
        case Phase.REFUSED:
            return bad("refused")
        case Phase.LOST:
            return bad("not found") if link.facts is None else bad(f"lost, {ago(link.age_us(at))}")


def _car_link(dashboard: Dashboard) -> tuple[Span, ...]:
    """Say so when this car wants the pool and has lost it; a car that does not compute needs no pool."""
    agent = dashboard.agent.facts
    if agent is None or agent.pool.connected or not dashboard.agent.live:
        return ()
    if agent.state not in {"connecting", "leased", "running"}:
        return ()
    return (warn(" · car offline"),)
