"""The agent's state machine: events in, the next state and effects out.

`step` is the only way a state changes. The phase that people see follows from the facts in a written order;
`TRANSITIONS` lists every pair of phases that may follow each other, and anything else is a broken invariant.
The promise kept here: a worker lives only while the policy says run. Whenever it stops saying so, the same
step kills the worker and gives the leases back; and a phase in which the worker may live is left for a
quiet one through YIELDING only, once the worker is seen dead.

What the policy says is decided in `car_agent.core.policy`; how a worker is killed, in `car_agent.runner`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum, unique
from types import MappingProxyType
from typing import assert_never

from car_agent.core.policy import Verdict, VerdictKind
from car_agent.core.reasons import ReasonCode
from pool_protocol.errors import InvariantError


@unique
class Phase(StrEnum):
    """What the agent does, as the owner sees it."""

    UNPAIRED = "unpaired"
    OPTED_OUT = "opted_out"
    PAUSED = "paused"
    WAITING = "waiting"
    CONNECTING = "connecting"
    IDLE = "idle"
    LEASED = "leased"
    RUNNING = "running"
    YIELDING = "yielding"


@unique
class WorkerFact(StrEnum):
    """What is known of the worker process."""

    NONE = "none"
    STARTING = "starting"
    READY = "ready"
    DYING = "dying"
    """Killed, not yet seen dead."""


_START = Verdict(kind=VerdictKind.STOP)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentState:
    """Everything the machine remembers. The default is an agent that was just switched on."""

    paired: bool = False
    verdict: Verdict = _START
    connected: bool = False
    worker: WorkerFact = WorkerFact.NONE
    worker_barred: bool = False
    """The last worker died by itself; no other starts before WorkerRetryDue."""
    lease_ids: frozenset[str] = frozenset()
    probe_due: bool = False
    """How this machine computes is not known: a worker finds out before any work is asked for."""
    shutting_down: bool = False

    @property
    def may_compute(self) -> bool:
        """Whether a worker may live at all."""
        return self.paired and self.verdict.runs and not self.shutting_down

    @property
    def may_ask(self) -> bool:
        """Whether work may be asked for: a worker can compute it, and what its results are like is known."""
        return self.may_compute and not self.probe_due and not self.worker_barred

    @property
    def worker_lives(self) -> bool:
        """Whether a worker process exists that nobody has killed."""
        return self.worker in {WorkerFact.STARTING, WorkerFact.READY}

    @property
    def phase(self) -> Phase:
        """The phase that follows from the facts; the first that fits."""
        if self.worker is WorkerFact.DYING or self.shutting_down:
            return Phase.YIELDING
        if not self.paired:
            return Phase.UNPAIRED
        if self.verdict.headline is ReasonCode.NOT_OPTED_IN:
            return Phase.OPTED_OUT
        if self.verdict.headline is ReasonCode.PAUSED_BY_OWNER:
            return Phase.PAUSED
        if not self.verdict.runs:
            return Phase.WAITING
        if self.lease_ids:
            return Phase.RUNNING if self.worker is WorkerFact.READY else Phase.LEASED
        return Phase.IDLE if self.connected else Phase.CONNECTING


# --- events: what happened ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Paired:
    """The vehicle has an identity in a pool."""


@dataclass(frozen=True, slots=True)
class Unpaired:
    """The pool no longer knows the vehicle."""


@dataclass(frozen=True, slots=True)
class VerdictGiven:
    """The policy was evaluated."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Connected:
    """The stream to the pool is up."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The stream to the pool is down."""


@dataclass(frozen=True, slots=True)
class LeaseTaken:
    """A verified lease is in the journal."""

    lease_id: str


@dataclass(frozen=True, slots=True)
class LeaseEnded:
    """Every attempt of a lease has its result in the journal, or was cancelled."""

    lease_id: str


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """The worker says that it can take programs."""


@dataclass(frozen=True, slots=True)
class WorkerExited:
    """No worker process is left."""


@dataclass(frozen=True, slots=True)
class WorkerRetryDue:
    """After a crash, the time before another try is over."""


@dataclass(frozen=True, slots=True)
class ProbeSeen:
    """Whether the numeric probe must run before any work is asked for."""

    due: bool


@dataclass(frozen=True, slots=True)
class IdleElapsed:
    """The worker had nothing to do for the idle time."""


@dataclass(frozen=True, slots=True)
class ShutdownAsked:
    """The daemon ends."""


Event = (
    Paired
    | Unpaired
    | VerdictGiven
    | Connected
    | Disconnected
    | LeaseTaken
    | LeaseEnded
    | WorkerReady
    | WorkerExited
    | WorkerRetryDue
    | ProbeSeen
    | IdleElapsed
    | ShutdownAsked
)

# --- effects: what the shell must do ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start a worker process."""


@dataclass(frozen=True, slots=True)
class KillWorker:
    """Kill the worker's whole process group at once; report WorkerExited when nothing of it is left."""

    reason: str


@dataclass(frozen=True, slots=True)
class AbandonLeases:
    """Give back what is not done of these leases, so that other vehicles can finish it."""

    lease_ids: frozenset[str]
    reason: str


Effect = StartWorker | KillWorker | AbandonLeases

SHUTDOWN_REASON = "AGENT_STOPPED"
IDLE_REASON = "IDLE"
UNPAIRED_REASON = "REVOKED"

_QUIET = frozenset(Phase) - {Phase.LEASED, Phase.RUNNING, Phase.YIELDING}
_EVERYWHERE = frozenset(Phase)

#: Which phase may follow which. RUNNING has no way to a quiet phase that forbids computing but YIELDING.
TRANSITIONS: Mapping[Phase, frozenset[Phase]] = MappingProxyType(
    {
        Phase.UNPAIRED: _QUIET | {Phase.YIELDING},
        Phase.OPTED_OUT: _QUIET | {Phase.YIELDING},
        Phase.PAUSED: _QUIET | {Phase.YIELDING},
        Phase.WAITING: _QUIET | {Phase.YIELDING},
        # CONNECTING may hold a journalled lease's worker; IDLE a warm one: both yield when they must stop.
        Phase.CONNECTING: _QUIET | {Phase.LEASED, Phase.RUNNING, Phase.YIELDING},
        Phase.IDLE: _QUIET | {Phase.LEASED, Phase.RUNNING, Phase.YIELDING},
        Phase.LEASED: _QUIET | {Phase.RUNNING, Phase.YIELDING},
        Phase.RUNNING: frozenset({Phase.IDLE, Phase.CONNECTING, Phase.LEASED, Phase.YIELDING}),
        Phase.YIELDING: _EVERYWHERE - {Phase.RUNNING},
    }
)


def step(state: AgentState, event: Event) -> tuple[AgentState, tuple[Effect, ...]]:
    """Return the state after an event, and what must be done now, in order.

    Raises:
        InvariantError: when the event would lead to a phase that may not follow.
    """
    known = _learn(state, event)
    after, effects = _settle(known, event)
    before_phase, after_phase = state.phase, after.phase
    if before_phase is not after_phase and after_phase not in TRANSITIONS[before_phase]:
        raise InvariantError(f"{after_phase} may not follow {before_phase} (by {type(event).__name__})")
    if after.worker_lives and not after.may_compute:
        raise InvariantError(f"a worker would live although {after.verdict.kind} (by {type(event).__name__})")
    return after, effects


def _learn(state: AgentState, event: Event) -> AgentState:
    """Take the fact that the event states into the state, without any decision."""
    match event:
        case Paired():
            return replace(state, paired=True)
        case Unpaired():
            return replace(state, paired=False, connected=False)
        case VerdictGiven(verdict):
            return replace(state, verdict=verdict)
        case Connected():
            return replace(state, connected=True)
        case Disconnected():
            return replace(state, connected=False)
        case LeaseTaken(lease_id):
            return replace(state, lease_ids=state.lease_ids | {lease_id})
        case LeaseEnded(lease_id):
            return replace(state, lease_ids=state.lease_ids - {lease_id})
        case WorkerReady():
            # A word from a worker that was killed meanwhile changes nothing.
            starting = state.worker is WorkerFact.STARTING
            return replace(state, worker=WorkerFact.READY) if starting else state
        case WorkerExited():
            crashed = state.worker_lives
            return replace(state, worker=WorkerFact.NONE, worker_barred=state.worker_barred or crashed)
        case WorkerRetryDue():
            return replace(state, worker_barred=False)
        case ProbeSeen(due):
            return replace(state, probe_due=due)
        case IdleElapsed():
            return state
        case ShutdownAsked():
            return replace(state, shutting_down=True)
    assert_never(event)


def _settle(state: AgentState, event: Event) -> tuple[AgentState, tuple[Effect, ...]]:
    """Bring worker and leases in line with what is known."""
    effects: list[Effect] = []
    if not state.may_compute:
        reason = _stop_reason(state)
        if state.worker_lives:
            state = replace(state, worker=WorkerFact.DYING)
            effects.append(KillWorker(reason))
        if state.lease_ids:
            effects.append(AbandonLeases(state.lease_ids, reason))
            state = replace(state, lease_ids=frozenset())
        return state, tuple(effects)
    wanted = bool(state.lease_ids) or state.probe_due
    if isinstance(event, IdleElapsed) and state.worker_lives and not wanted:
        return replace(state, worker=WorkerFact.DYING), (KillWorker(IDLE_REASON),)
    if wanted and state.worker is WorkerFact.NONE and not state.worker_barred:
        return replace(state, worker=WorkerFact.STARTING), (StartWorker(),)
    return state, ()


def _stop_reason(state: AgentState) -> str:
    if state.shutting_down:
        return SHUTDOWN_REASON
    if not state.paired:
        return UNPAIRED_REASON
    headline = state.verdict.headline
    return SHUTDOWN_REASON if headline is None else headline.value
