"""The operator's view: the pool in figures, the fleet, the jobs, the payout runs."""

from tui.facts import JobFacts, OperatorFacts, OverviewFacts, PayoutFacts
from tui.view_models.fleet import COLUMNS as VEHICLE_COLUMNS
from tui.view_models.fleet import vehicle_row
from tui.view_models.panel import PanelView, Span, Tone, bad, dim, good, labelled, line, strong, warn
from tui.view_models.state import Link, Moment
from tui.view_models.table import Column, Row, TableView
from tui.view_models.text import ago, clean, count, moment, money, price_per_wu, short_id

TITLE = "Pool"
JOB_COLUMNS = (
    Column(key="job", label="Job"),
    Column(key="name", label="Name"),
    Column(key="state", label="State"),
    Column(key="done", label="Accepted", right=True),
    Column(key="running", label="Running", right=True),
    Column(key="failed", label="Failed", right=True),
    Column(key="rejected", label="Rejected", right=True),
    Column(key="spent", label="Spent", right=True),
)
PAYOUT_COLUMNS = (
    Column(key="payout", label="Run"),
    Column(key="state", label="State"),
    Column(key="total", label="Total", right=True),
    Column(key="planned", label="Planned"),
    Column(key="planner", label="By"),
    Column(key="approver", label="Approved by"),
)


def pool_panel(link: Link[OperatorFacts], at: Moment) -> PanelView:
    """Return the figures, or why there are none."""
    if link.facts is None:
        if link.trouble is None:
            return PanelView(title=TITLE, lines=(line(dim(f"Asking the pool at {clean(link.place)} …")),))
        trouble = (line(bad(clean(link.trouble.public))), line(dim("→ "), clean(link.trouble.next_step)))
        return PanelView(title=TITLE, lines=trouble, tone=Tone.BAD)
    overview = link.facts.overview
    lines = (
        labelled("Price", strong(price_per_wu(overview.posted_price_micros_per_wu, overview.currency))),
        labelled("Cars", _states(overview.vehicles_by_state)),
        labelled("Jobs", _states(overview.jobs_by_state), dim(f"  {overview.tasks_accepted:,} tasks")),
        labelled("Attempts", _states(overview.attempts_by_state)),
        labelled("Buyers", *_buyers(overview)),
        labelled("Owners", *_owners(overview)),
        labelled("Pool", *_own(overview)),
    )
    note = "" if link.live else f"stale, {ago(link.age_us(at))}"
    place = clean(overview.pool_id, characters_max=24) or TITLE
    return PanelView(title=place, lines=lines, note=note, tone=Tone.PLAIN if link.live else Tone.WARN)


def _states(by_state: tuple[tuple[str, int], ...]) -> str:
    known = [f"{number:,} {clean(state, characters_max=16)}" for state, number in by_state if number]
    return " · ".join(known) or "none"


def _buyers(overview: OverviewFacts) -> tuple[Span | str, ...]:
    free = money(overview.buyers_available_micros, overview.currency)
    return (
        free,
        dim(" free · "),
        money(overview.escrow_micros, overview.currency),
        dim(" reserved"),
    )


def _owners(overview: OverviewFacts) -> tuple[Span | str, ...]:
    held = money(overview.held_micros, overview.currency)
    return (
        held,
        dim(" held · "),
        good(money(overview.available_micros, overview.currency)),
        dim(" available"),
    )


def _own(overview: OverviewFacts) -> tuple[Span | str, ...]:
    fees = money(overview.fees_micros, overview.currency)
    audits = money(overview.verification_cost_micros, overview.currency)
    return (fees, dim(" fees · "), audits, dim(" spent on audits"))


def fleet_table(link: Link[OperatorFacts], at: Moment) -> TableView:
    """Return all vehicles."""
    vehicles = link.facts.fleet if link.facts else ()
    currency = link.facts.overview.currency if link.facts else ""
    rows = tuple(vehicle_row(vehicle, at, currency=currency) for vehicle in vehicles)
    return TableView(columns=VEHICLE_COLUMNS, rows=rows, caption=line(strong(count(len(rows), "car"))))


def jobs_table(link: Link[OperatorFacts], at: Moment) -> TableView:
    """Return the jobs, newest first."""
    jobs = link.facts.jobs if link.facts else ()
    currency = link.facts.overview.currency if link.facts else ""
    rows = tuple(_job_row(job, at, currency) for job in jobs)
    return TableView(columns=JOB_COLUMNS, rows=rows, caption=line(strong(count(len(rows), "job"))))


def _job_row(job: JobFacts, at: Moment, currency: str) -> Row:
    created = moment(job.created_at_us, at.zone, now_us=at.now_us) if job.created_at_us else "unknown"
    return Row(
        key=job.job_id,
        cells=(
            strong(clean(job.job_id, characters_max=24)),
            Span(clean(job.name, characters_max=24)),
            Span(clean(job.state, characters_max=16)),
            Span(f"{job.accepted_count:,}/{job.task_count:,}"),
            good(f"{job.running_count:,}") if job.running_count else dim("0"),
            bad(f"{job.failed_count:,}") if job.failed_count else dim("0"),
            warn(f"{job.rejected_count:,}") if job.rejected_count else dim("0"),
            Span(money(job.spent_micros, "")),
        ),
        detail=(
            labelled(
                "Reserved", f"{money(job.escrow_micros, currency)} not yet spent", dim(f", created {created}")
            ),
        ),
    )


def payouts_table(link: Link[OperatorFacts], at: Moment) -> TableView:
    """Return the payout runs, newest first."""
    payouts = link.facts.payouts if link.facts else ()
    currency = link.facts.overview.currency if link.facts else ""
    rows = tuple(_payout_row(payout, at, currency) for payout in payouts)
    caption = line(
        strong(count(len(rows), "payout run")), dim("  plan, approve, export: pool-server payouts --help")
    )
    return TableView(columns=PAYOUT_COLUMNS, rows=rows, caption=caption)


def _payout_row(payout: PayoutFacts, at: Moment, currency: str) -> Row:
    return Row(
        key=payout.payout_id,
        cells=(
            strong(clean(payout.payout_id, characters_max=24)),
            Span(clean(payout.state, characters_max=16)),
            Span(money(payout.total_micros, currency)),
            Span(moment(payout.planned_at_us, at.zone, now_us=at.now_us)),
            Span(short_id(payout.planned_by)),
            Span(short_id(payout.approved_by) if payout.approved_by else "–"),
        ),
    )
