"""The owner's cars as the pool knows them."""

from tui.facts import VehicleFacts
from tui.view_models.panel import Line, Span, Tone, bad, dim, good, labelled, line, strong, warn
from tui.view_models.state import Dashboard, Moment
from tui.view_models.table import Column, Row, TableView
from tui.view_models.text import ago, clean, count, moment, money, short_id

COLUMNS = (
    Column(key="label", label="Car"),
    Column(key="state", label="State"),
    Column(key="now", label="Now", right=True),
    Column(key="verified", label="Verified", right=True),
    Column(key="rejected", label="Rejected", right=True),
    Column(key="net", label="Net", right=True),
    Column(key="seen", label="Seen"),
)


def vehicles_table(dashboard: Dashboard, at: Moment) -> TableView:
    """Return the owner's vehicles, in the pool's order."""
    account = dashboard.account
    if account.facts is None:
        why = clean(account.trouble.public) if account.trouble else ""
        step = clean(account.trouble.next_step) if account.trouble else "Waiting for the pool …"
        return TableView(columns=COLUMNS, rows=(), caption=line(warn(f"{why} " if why else ""), step))
    own_id = dashboard.agent.facts.vehicle_id if dashboard.agent.facts else ""
    vehicles = account.facts.vehicles
    currency = account.facts.earnings.currency
    rows = tuple(vehicle_row(vehicle, at, currency=currency, own_id=own_id) for vehicle in vehicles)
    fresh = dim("live") if account.live else warn(f"stale, {ago(account.age_us(at))}")
    caption = line(strong(count(len(vehicles), "car")), "  ", fresh)
    if not vehicles:
        caption = line("No car yet. ", dim("Run `car-agent pair` on one, then press p and enter its code."))
    return TableView(columns=COLUMNS, rows=rows, caption=caption)


def vehicle_row(vehicle: VehicleFacts, at: Moment, *, currency: str, own_id: str = "") -> Row:
    """Return one vehicle as a row."""
    label = clean(vehicle.label, characters_max=20) or short_id(vehicle.vehicle_id)
    here = "▸ " if vehicle.vehicle_id == own_id else ""
    running = vehicle.running_attempts
    seen = ago(at.now_us - vehicle.last_seen_us, coarse=True) if vehicle.last_seen_us else "never"
    return Row(
        key=vehicle.vehicle_id,
        cells=(
            strong(f"{here}{label}"),
            _state(vehicle),
            good(f"● {running:,}") if running else dim("–"),
            Span(f"{vehicle.verified_attempts:,}"),
            bad(f"{vehicle.rejected_attempts:,}") if vehicle.rejected_attempts else dim("0"),
            Span(money(vehicle.net_micros, currency)),
            Span(seen),
        ),
        detail=_detail(vehicle, at, is_here=bool(here)),
    )


def _state(vehicle: VehicleFacts) -> Span:
    tone = {
        "quarantined": Tone.BAD,
        "lost": Tone.WARN,
        "retired": Tone.DIM,
        "leased": Tone.GOOD,
        "available": Tone.PLAIN,
    }.get(vehicle.state, Tone.PLAIN)
    return Span(clean(vehicle.state, characters_max=16), tone)


def _detail(vehicle: VehicleFacts, at: Moment, *, is_here: bool) -> tuple[Line, ...]:
    enrolled = moment(vehicle.enrolled_at_us, at.zone, now_us=at.now_us) if vehicle.enrolled_at_us else "?"
    given_up = count(vehicle.abandoned_attempts, "task")
    lines = [
        labelled("Id", clean(vehicle.vehicle_id), dim(", this car" if is_here else "")),
        labelled(
            "Enrolled",
            enrolled,
            dim(f", agent {clean(vehicle.agent_version, characters_max=24) or 'unknown'}"),
        ),
        labelled("Unplugged", f"{given_up} given up before the end (no blame)"),
    ]
    if vehicle.quarantine_reason:
        lines.append(labelled("Stopped", bad(clean(vehicle.quarantine_reason))))
    return tuple(lines)
