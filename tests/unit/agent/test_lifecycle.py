"""The state machine: whatever happens in whatever order, a worker lives only while the policy says run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from car_agent.core.lifecycle import (
    TRANSITIONS,
    AbandonLeases,
    AgentState,
    Connected,
    Disconnected,
    Effect,
    Event,
    IdleElapsed,
    KillWorker,
    LeaseEnded,
    LeaseTaken,
    Paired,
    Phase,
    ProbeSeen,
    ShutdownAsked,
    StartWorker,
    Unpaired,
    VerdictGiven,
    WorkerExited,
    WorkerFact,
    WorkerReady,
    WorkerRetryDue,
    step,
)
from car_agent.core.policy import Verdict, VerdictKind
from car_agent.core.reasons import Reason, ReasonCode

RUN = VerdictGiven(Verdict(kind=VerdictKind.RUN))


def stopped(code: ReasonCode, kind: VerdictKind = VerdictKind.STOP) -> VerdictGiven:
    return VerdictGiven(Verdict(kind=kind, reasons=(Reason(code=code, message="m", remedy="r"),)))


UNPLUGGED = stopped(ReasonCode.UNPLUGGED)
COOLING = stopped(ReasonCode.HOT_BATTERY, VerdictKind.WAIT)


def play(*events: Event, state: AgentState | None = None) -> tuple[AgentState, list[Effect]]:
    current = state or AgentState()
    effects: list[Effect] = []
    for event in events:
        current, new = step(current, event)
        effects += new
    return current, effects


RUNNING = (Paired(), RUN, Connected(), LeaseTaken("lease_1"), WorkerReady())


def test_the_usual_road() -> None:
    state = AgentState()
    story: list[tuple[Event, Phase]] = [
        (Paired(), Phase.WAITING),
        (stopped(ReasonCode.NOT_OPTED_IN), Phase.OPTED_OUT),
        (stopped(ReasonCode.PAUSED_BY_OWNER), Phase.PAUSED),
        (UNPLUGGED, Phase.WAITING),
        (RUN, Phase.CONNECTING),
        (Connected(), Phase.IDLE),
        (LeaseTaken("lease_1"), Phase.LEASED),
        (WorkerReady(), Phase.RUNNING),
        (LeaseTaken("lease_2"), Phase.RUNNING),
        (Disconnected(), Phase.RUNNING),
        (LeaseEnded("lease_1"), Phase.RUNNING),
        (LeaseEnded("lease_2"), Phase.CONNECTING),
        (Connected(), Phase.IDLE),
        (IdleElapsed(), Phase.YIELDING),
        (WorkerExited(), Phase.IDLE),
    ]
    for event, phase in story:
        state, _ = step(state, event)
        assert state.phase is phase, event


def test_unplugging_kills_first_and_gives_the_lease_back() -> None:
    state, _ = play(*RUNNING)
    state, effects = step(state, UNPLUGGED)
    assert effects == (KillWorker("UNPLUGGED"), AbandonLeases(frozenset({"lease_1"}), "UNPLUGGED"))
    assert state.phase is Phase.YIELDING
    state, effects = step(state, WorkerExited())
    assert (state.phase, effects) == (Phase.WAITING, ())


def test_a_wait_verdict_stops_the_worker_as_well() -> None:
    _, effects = play(*RUNNING, COOLING)
    assert KillWorker("HOT_BATTERY") in effects


def test_a_lease_that_arrives_after_the_stop_goes_straight_back() -> None:
    state, _ = play(Paired(), RUN, Connected(), UNPLUGGED)
    state, effects = step(state, LeaseTaken("lease_9"))
    assert effects == (AbandonLeases(frozenset({"lease_9"}), "UNPLUGGED"),)
    assert not state.lease_ids


def test_plugging_in_again_while_the_old_worker_dies_waits_for_its_end() -> None:
    state, effects = play(*RUNNING, UNPLUGGED, RUN, LeaseTaken("lease_2"))
    assert effects.count(StartWorker()) == 1
    assert state.worker is WorkerFact.DYING
    state, after = step(state, WorkerExited())
    assert after == (StartWorker(),)
    assert state.phase is Phase.LEASED


def test_a_late_word_of_a_killed_worker_changes_nothing() -> None:
    state, _ = play(Paired(), RUN, LeaseTaken("lease_1"), UNPLUGGED)
    after, effects = step(state, WorkerReady())
    assert (after, effects) == (state, ())


def test_a_crash_bars_the_next_worker_until_the_retry_is_due() -> None:
    state, _ = play(*RUNNING)
    state, effects = step(state, WorkerExited())
    assert (state.phase, effects) == (Phase.LEASED, ())
    state, effects = step(state, WorkerRetryDue())
    assert effects == (StartWorker(),)


def test_revocation_and_shutdown_stop_everything() -> None:
    _, effects = play(*RUNNING, Unpaired())
    assert KillWorker("REVOKED") in effects
    state, effects = play(*RUNNING, ShutdownAsked())
    assert KillWorker("AGENT_STOPPED") in effects
    state, effects = play(WorkerExited(), RUN, LeaseTaken("lease_5"), state=state)
    assert StartWorker() not in effects
    assert state.phase is Phase.YIELDING


def test_a_probe_that_is_due_comes_before_any_work() -> None:
    state, effects = play(Paired(), ProbeSeen(due=True))
    assert effects == [], "not before the car may compute"
    state, effects = play(RUN, Connected(), state=state)
    assert (effects, state.phase, state.may_ask) == ([StartWorker()], Phase.IDLE, False)
    state, effects = play(WorkerReady(), IdleElapsed(), state=state)
    assert (effects, state.may_ask) == ([], False), "who probes is not idle"
    state, _ = step(state, ProbeSeen(due=False))
    assert state.may_ask
    _, effects = play(IdleElapsed(), state=state)
    assert effects == [KillWorker("IDLE")]


def test_a_probe_ends_with_the_permission_to_compute() -> None:
    state, effects = play(Paired(), ProbeSeen(due=True), RUN, Connected(), WorkerReady(), UNPLUGGED)
    assert (effects[-1], state.phase) == (KillWorker("UNPLUGGED"), Phase.YIELDING)
    state, effects = play(WorkerExited(), RUN, state=state)
    assert effects == [StartWorker()]


def test_a_worker_with_work_is_not_idle() -> None:
    state, _ = play(*RUNNING)
    assert step(state, IdleElapsed()) == (state, ())


def test_running_is_left_for_a_forbidding_phase_through_yielding_only() -> None:
    for phase in (Phase.UNPAIRED, Phase.OPTED_OUT, Phase.PAUSED, Phase.WAITING):
        assert phase not in TRANSITIONS[Phase.RUNNING]
    assert set(TRANSITIONS) == set(Phase)
    assert Phase.RUNNING not in TRANSITIONS[Phase.YIELDING]


lease_ids = st.sampled_from(["lease_1", "lease_2", "lease_3"])
verdicts = st.just(RUN) | st.builds(
    stopped, st.sampled_from(ReasonCode), st.sampled_from([VerdictKind.WAIT, VerdictKind.STOP])
)
any_event = st.one_of(
    verdicts,
    st.builds(LeaseTaken, lease_ids),
    st.builds(LeaseEnded, lease_ids),
    st.sampled_from(
        [
            Paired(),
            Unpaired(),
            Connected(),
            Disconnected(),
            WorkerReady(),
            WorkerExited(),
            WorkerRetryDue(),
            IdleElapsed(),
            ProbeSeen(due=True),
            ProbeSeen(due=False),
            ShutdownAsked(),
        ]
    ),
)


@given(events=st.lists(any_event, max_size=40))
def test_no_sequence_of_events_lets_a_worker_live_against_the_policy(events: list[Event]) -> None:
    """A model of the process: effects start and kill it, and only real exits are reported."""
    state = AgentState()
    alive = killed = False
    taken: set[str] = set()
    for event in events:
        if isinstance(event, WorkerExited):
            if not alive:
                continue  # nothing to exit
            alive = killed = False
        if isinstance(event, LeaseTaken):
            taken.add(event.lease_id)
        if isinstance(event, LeaseEnded):
            taken.discard(event.lease_id)
        state, effects = step(state, event)
        for effect in effects:
            if isinstance(effect, StartWorker):
                assert not alive, "two workers"
                alive, killed = True, False
            elif isinstance(effect, KillWorker):
                assert alive
                assert not killed, "killed twice"
                killed = True
            else:
                taken -= effect.lease_ids
        assert not (alive and not killed) or state.may_compute
        assert state.lease_ids == taken, "a lease is worked on or given back, never forgotten"
        if not state.may_compute:
            assert not taken


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_can_be_reached(phase: Phase) -> None:
    roads: dict[Phase, tuple[Event, ...]] = {
        Phase.UNPAIRED: (),
        Phase.OPTED_OUT: (Paired(), stopped(ReasonCode.NOT_OPTED_IN)),
        Phase.PAUSED: (Paired(), stopped(ReasonCode.PAUSED_BY_OWNER)),
        Phase.WAITING: (Paired(), UNPLUGGED),
        Phase.CONNECTING: (Paired(), RUN),
        Phase.IDLE: (Paired(), RUN, Connected()),
        Phase.LEASED: (Paired(), RUN, Connected(), LeaseTaken("lease_1")),
        Phase.RUNNING: RUNNING,
        Phase.YIELDING: (*RUNNING, UNPLUGGED),
    }
    assert play(*roads[phase])[0].phase is phase
