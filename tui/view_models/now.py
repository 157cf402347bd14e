"""The first question: does my car compute now; if not, why, and what would change it.

When the agent does not answer, the truth is that nobody here knows: the panel says so, with what was last
known and how old that is, instead of repeating it as if it were now.
"""

from dataclasses import dataclass

from tui.facts import AgentFacts, ComputeFacts, ReasonFacts
from tui.view_models.panel import Line, PanelView, Span, Tone, bad, dim, good, line, strong, warn
from tui.view_models.state import Dashboard, Link, Moment, Phase
from tui.view_models.text import ago, bar, clean, count, moment, percent, power, sentence

TITLE = "Is it computing now?"
_BAR_WIDTH = 40
_UNPLUGGING = "Unplugging stops it at once."
#: Codes of the agent's reasons that this screen answers with a key of its own.
_NOT_OPTED_IN = "NOT_OPTED_IN"
_PAUSED = "PAUSED_BY_OWNER"
_WAIT = "Nothing to do: it starts by itself when the pool has work."
#: Why the pool gave no work, by its code: what that means, and what would change it.
_NO_WORK = {
    "": ("the pool has no work for this car now", _WAIT),
    "NO_WORK": ("the pool has no work for this car now", _WAIT),
    "PRICE_BELOW_RESERVE": (
        "the pool pays less than your reserve price",
        "It starts when the price rises; a lower reserve in the policy starts it sooner.",
    ),
    "DRAINING": ("the pool is about to restart", "Nothing to do: it gives work again after that."),
    "QUARANTINED": (
        "the pool gives this car no work while it is in quarantine",
        "Ask the operator for a review; e shows what happened.",
    ),
}

#: The agent's states in one or two words, with a sign that is not a colour.
_WORDS = {
    "unpaired": ("○", "NOT PAIRED", Tone.WARN),
    "idle": ("○", "IDLE", Tone.PLAIN),
    "waiting": ("○", "WAITING", Tone.WARN),
    "connecting": ("○", "CONNECTING", Tone.WARN),
    "leased": ("◐", "STARTING", Tone.GOOD),
    "running": ("●", "COMPUTING", Tone.GOOD),
    "yielding": ("◑", "STOPPING", Tone.WARN),
    "paused": ("‖", "PAUSED", Tone.WARN),
    "opted_out": ("○", "OFF", Tone.PLAIN),
}


def state_word(agent: AgentFacts) -> Span:
    """Return the sign and the word for the agent's state. Computing is what the agent says it is."""
    if agent.computing:
        sign, word, tone = _WORDS["running"]
    elif agent.state == "running":
        # Between two tasks, or the worker is being started.
        sign, word, tone = _WORDS["leased"]
    else:
        sign, word, tone = _WORDS.get(
            agent.state, ("○", clean(agent.state, characters_max=16).upper(), Tone.PLAIN)
        )
    return Span(f"{sign} {word}", tone)


def now_panel(dashboard: Dashboard, at: Moment) -> PanelView:
    """Return what the first panel says."""
    agent = dashboard.agent
    if agent.phase is Phase.UNSET:
        return _without_agent(dashboard)
    if agent.facts is None:
        return _not_met(dashboard)
    if not agent.live:
        return _unknown(agent, agent.facts, at)
    return _known(agent.facts, dashboard, at)


def _known(agent: AgentFacts, dashboard: Dashboard, at: Moment) -> PanelView:
    word = state_word(agent)
    if dashboard.busy:
        word = Span(f"◌ {clean(dashboard.busy).upper()}", Tone.WARN)
    answer = _answer(agent, at)
    first: list[Span] = [Span(word.text, Tone.STRONG if word.tone is Tone.PLAIN else word.tone)]
    if answer.headline:
        first += [Span("  "), strong(answer.headline)]
    lines: list[Line] = [tuple(first)]
    if agent.pool.quarantine_reason:
        lines.append(line(bad("In quarantine: "), sentence(clean(agent.pool.quarantine_reason))))
    if answer.remedy:
        lines.append(line(dim("→ "), answer.remedy))
    if agent.computing and agent.compute.lease_attempts:
        lines.append(_lease_bar(agent.compute))
    note = ""
    if answer.others:
        also = " ".join(sentence(clean(reason.message)) for reason in answer.others)
        lines.append(line(dim(f"Also ({len(answer.others)}): "), also))
        note = f"and {count(len(answer.others), 'other reason')}"
    return PanelView(title=TITLE, lines=tuple(lines), note=note, tone=word.tone)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """Why, what would change it, and what else stands in the way."""

    headline: str
    remedy: str = ""
    others: tuple[ReasonFacts, ...] = ()


def _answer(agent: AgentFacts, at: Moment) -> _Answer:
    """Return the answer for a state; a state that this dashboard does not know is told by its reasons."""
    reasons = agent.reasons
    if agent.computing:
        return _Answer(headline=_progress(agent), remedy=_while_computing(agent))
    if agent.state == "unpaired" or not agent.vehicle_id:
        return _Answer(
            headline="This car is not paired with a pool yet.",
            remedy="Run `car-agent pair`, then press p here and enter the code that it shows.",
            others=reasons,
        )
    if not agent.opted_in:
        said = next((r.message for r in reasons if r.code == _NOT_OPTED_IN), "You have not opted in")
        others = tuple(r for r in reasons if r.code != _NOT_OPTED_IN)
        return _Answer(headline=sentence(clean(said)), remedy="Press o to opt in.", others=others)
    if agent.paused:
        until = moment(agent.pause_until_us, at.zone, now_us=at.now_us) if agent.pause_until_us else ""
        said = f"Paused by you until {until}." if until else "Paused by you, until you resume."
        others = tuple(r for r in reasons if r.code != _PAUSED)
        return _Answer(headline=said, remedy="Press space to resume.", others=others)
    if reasons and reasons[0].message:
        headline = sentence(clean(reasons[0].message))
        return _Answer(headline=headline, remedy=sentence(clean(reasons[0].remedy)), others=reasons[1:])
    return _ready(agent)


def _ready(agent: AgentFacts) -> _Answer:
    """Nothing on the car stands in the way: say what the agent waits for."""
    if agent.state == "connecting":
        place = clean(agent.pool.address, characters_max=40) or "the pool"
        return _Answer(headline="Ready, but the pool does not answer.", remedy=f"It keeps trying {place}.")
    if agent.state == "idle":
        why, remedy = _NO_WORK.get(agent.pool.no_work_reason, (clean(agent.pool.no_work_reason), _WAIT))
        return _Answer(headline=sentence(f"Ready: {why}"), remedy=remedy)
    if agent.state in {"leased", "running"}:
        return _Answer(headline="Work has come; the worker starts.", remedy=_while_computing(agent))
    return _Answer(headline="")


def _lease_bar(compute: ComputeFacts) -> Line:
    share = compute.lease_done / compute.lease_attempts
    return line(
        dim("  Lease "),
        bar(share, width=_BAR_WIDTH),
        dim(f" {compute.lease_done} of {compute.lease_attempts} done"),
    )


def _progress(agent: AgentFacts) -> str:
    compute = agent.compute
    parts = []
    if compute.lease_attempts:
        current = min(compute.lease_done + 1, compute.lease_attempts)
        parts.append(f"task {current} of {compute.lease_attempts} in this lease")
    if compute.attempt_progress >= 0:
        parts.append(f"{percent(compute.attempt_progress * 100)} done")
    return ", ".join(parts)


def _while_computing(agent: AgentFacts) -> str:
    signals = agent.signals
    parts = []
    if signals.charge_power_w is not None:
        parts.append(f"charging at {power(signals.charge_power_w)}")
    if signals.soc_percent is not None:
        parts.append(f"battery {percent(signals.soc_percent)}")
    because = ", ".join(parts)
    return f"{because[0].upper()}{because[1:]}. {_UNPLUGGING}" if because else _UNPLUGGING


def _unknown(link: Link[AgentFacts], agent: AgentFacts, at: Moment) -> PanelView:
    was = state_word(agent).text.split(" ", 1)[1].lower()
    lines = [
        line(bad("? UNKNOWN"), "  ", strong(f"The agent does not answer; last heard {ago(link.age_us(at))}."))
    ]
    lines.append(line(dim("Then it was: "), was, dim(". If the agent is dead, so is its worker.")))
    if link.trouble:
        lines.append(line(dim("→ "), clean(link.trouble.next_step)))
    return PanelView(title=TITLE, lines=tuple(lines), note="stale", tone=Tone.BAD)


def _not_met(dashboard: Dashboard) -> PanelView:
    link = dashboard.agent
    if link.trouble is None:
        return PanelView(title=TITLE, lines=(line(dim(f"Looking for the agent at {clean(link.place)} …")),))
    lines = [
        line(warn("○ NO AGENT"), "  ", strong("No agent answers on this computer.")),
        line(dim("→ "), clean(link.trouble.next_step)),
    ]
    fleet = _fleet(dashboard)
    if fleet:
        lines.append(fleet)
    return PanelView(title=TITLE, lines=tuple(lines), note=clean(link.place), tone=Tone.WARN)


def _without_agent(dashboard: Dashboard) -> PanelView:
    fleet = _fleet(dashboard)
    lines = [fleet] if fleet else [line(dim("Waiting for the pool …"))]
    lines.append(
        line(
            dim("→ "),
            "To switch a car on or off here, start its agent: `car-agent run`, or give --agent-socket.",
        )
    )
    return PanelView(title=TITLE, lines=tuple(lines))


def _fleet(dashboard: Dashboard) -> Line:
    """Return what the pool says about all the owner's cars, when there is no agent to ask."""
    account = dashboard.account
    if account.facts is None:
        return ()
    vehicles = [vehicle for vehicle in account.facts.vehicles if vehicle.state != "retired"]
    if not vehicles:
        return line("The pool knows no car of yours. ", dim("Press p to approve a pairing code."))
    computing = sum(1 for vehicle in vehicles if vehicle.running_attempts)
    word = good(f"● {computing} COMPUTING") if computing else strong("○ NONE COMPUTING")
    suffix = "" if account.live else " (stale)"
    return line(word, f"  of {count(len(vehicles), 'car')}, says the pool{suffix}. ", dim("v lists them."))
