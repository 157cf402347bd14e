"""The computing: power, the current task, the lease, today, the last stop, what the pool has not taken."""

from tui.facts import CarEnergyFacts, ComputeFacts
from tui.view_models.panel import PanelView, Span, Tone, dim, good, labelled, line, strong, warn
from tui.view_models.state import Dashboard
from tui.view_models.text import bar, count, duration, kwh, metered, milliseconds, percent, power, short_id

TITLE = "Computing"
_BAR_WIDTH = 8
#: The promise of the agent: from unplugging to no worker alive.
STOP_PROMISE_MS = 250


def compute_panel(dashboard: Dashboard) -> PanelView:
    """Return what the compute panel says."""
    link = dashboard.agent
    if link.facts is None:
        return PanelView(title=TITLE, lines=(line(dim("Only the agent in the car knows.")),))
    compute = link.facts.compute
    lines = (
        labelled("Power", *_power(compute, link.facts.energy)),
        labelled("Task", *_task(compute, computing=link.facts.computing)),
        labelled("Lease", *_lease(compute)),
        labelled("Today", duration(compute.compute_today_ms / 1000), *_energy_today(link.facts.energy)),
        labelled("Last stop", *_last_stop(compute)),
    )
    note = f"{count(compute.completed_total, 'task')} so far" if link.live else "stale"
    if compute.sandbox_missing and link.live:
        note = f"sandbox: {count(len(compute.sandbox_missing), 'part')} missing"
    return PanelView(title=TITLE, lines=lines, note=note, tone=Tone.PLAIN if link.live else Tone.WARN)


def _power(compute: ComputeFacts, energy: CarEnergyFacts) -> tuple[Span | str, ...]:
    if compute.watts > 0:
        how = dim(f" {metered(energy.source)}") if energy.source else ""
        return (strong(power(compute.watts)), how)
    if not compute.worker_alive:
        return (dim("none: no worker runs"),)
    return (dim("none: nothing to compute" if energy.source else "not measured here"),)


def _energy_today(energy: CarEnergyFacts) -> tuple[Span | str, ...]:
    return (f", {kwh(energy.today_mj)}",) if energy.today_mj else (dim(" computed"),)


def _task(compute: ComputeFacts, *, computing: bool) -> tuple[Span | str, ...]:
    if not compute.program_sha256:
        return (dim("starting …" if computing else "none"),)
    name = short_id(compute.program_sha256, characters=7)
    if compute.attempt_progress < 0:
        return (name,)
    share = compute.attempt_progress
    return (f"{name} ", dim(bar(share, width=_BAR_WIDTH)), f" {percent(share * 100)}")


def _lease(compute: ComputeFacts) -> tuple[Span | str, ...]:
    late = f", {compute.unacknowledged:,} unsent"
    sent: Span | str = warn(late) if compute.unacknowledged else dim(", all sent")
    if not compute.lease_attempts:
        return (dim("none"), sent)
    return (strong(f"{compute.lease_done} of {compute.lease_attempts}"), " done", sent)


def _last_stop(compute: ComputeFacts) -> tuple[Span | str, ...]:
    if compute.last_stop_ms < 0:
        return (dim("none yet"),)
    text = milliseconds(compute.last_stop_ms)
    if compute.last_stop_ms <= STOP_PROMISE_MS:
        return (good(text), dim(f" (promise {STOP_PROMISE_MS} ms)"))
    return (warn(f"{text}, promise was {STOP_PROMISE_MS} ms"),)
