"""The lifecycles: every pair of states is either in the table or refused, and the tables make sense."""

from enum import StrEnum
from itertools import product
from typing import Any

import pytest

from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_server.core.fleet import (
    LEASABLE_STATES,
    VEHICLE_LIFECYCLE,
    VehicleState,
    state_on_contact,
)
from pool_server.core.jobs import (
    ATTEMPT_LIFECYCLE,
    COUNTING_ATTEMPT_STATES,
    DECIDED_TASK_STATES,
    FUNDED_ATTEMPT_STATES,
    JOB_LIFECYCLE,
    LEASE_LIFECYCLE,
    TASK_LIFECYCLE,
    AttemptState,
    JobState,
    LeaseState,
    TaskState,
)
from pool_server.core.lifecycle import Lifecycle
from pool_server.core.verification.dispute import DISPUTE_LIFECYCLE
from pool_server.core.verification.prefix_claim import PREFIX_LIFECYCLE
from pool_server.core.verification.unit_check import UNIT_CHECK_LIFECYCLE

LIFECYCLES: list[Lifecycle[Any]] = [
    VEHICLE_LIFECYCLE,
    JOB_LIFECYCLE,
    TASK_LIFECYCLE,
    ATTEMPT_LIFECYCLE,
    LEASE_LIFECYCLE,
    DISPUTE_LIFECYCLE,
    PREFIX_LIFECYCLE,
    UNIT_CHECK_LIFECYCLE,
]
PAIRS = [
    pytest.param(lifecycle, source, target, id=f"{lifecycle.name}: {source} -> {target}")
    for lifecycle in LIFECYCLES
    for source, target in product(lifecycle.states(), repeat=2)
]


@pytest.mark.parametrize(("lifecycle", "source", "target"), PAIRS)
def test_a_step_is_legal_exactly_if_the_table_holds_it(
    lifecycle: Lifecycle[StrEnum], source: StrEnum, target: StrEnum
) -> None:
    if (source, target) in lifecycle.transitions:
        assert lifecycle.allows(source, target)
        assert lifecycle.check(source, target, what="7") is target
        assert lifecycle.require(source, target, what="7") is target
        assert source in lifecycle.sources(target)
        return
    assert not lifecycle.allows(source, target)
    assert source not in lifecycle.sources(target)
    with pytest.raises(InvariantError):
        lifecycle.check(source, target, what="7")
    with pytest.raises(PoolError) as refusal:
        lifecycle.require(source, target, what="7")
    assert refusal.value.code is ErrorCode.INVALID_STATE
    assert refusal.value.context["state"] == source.value


@pytest.mark.parametrize("lifecycle", LIFECYCLES, ids=lambda lifecycle: lifecycle.name)
def test_every_state_can_be_reached_and_nothing_stands_still(lifecycle: Lifecycle[StrEnum]) -> None:
    reached = {lifecycle.initial}
    while grown := {to for source, to in lifecycle.transitions if source in reached} - reached:
        reached |= grown
    assert reached == set(lifecycle.states())
    assert all(source is not target for source, target in lifecycle.transitions)
    assert all(cause for cause in lifecycle.transitions.values())


def test_terminal_states_are_the_ends_that_are_meant() -> None:
    assert VEHICLE_LIFECYCLE.terminal() == {VehicleState.RETIRED}
    # A look-back opens what was accepted again, and with it a job that was done.
    assert JOB_LIFECYCLE.terminal() == {JobState.CANCELLED}
    assert TASK_LIFECYCLE.terminal() == DECIDED_TASK_STATES - {TaskState.ACCEPTED}
    assert LEASE_LIFECYCLE.terminal() == set(LeaseState) - {LeaseState.LIVE}
    assert ATTEMPT_LIFECYCLE.terminal() == {
        AttemptState.REJECTED,
        AttemptState.CANCELLED,
        AttemptState.DISCARDED,
    }


def test_a_judged_attempt_loses_its_verdict_to_a_look_back_alone() -> None:
    assert AttemptState.REJECTED in ATTEMPT_LIFECYCLE.terminal()
    leaving = {to for source, to in ATTEMPT_LIFECYCLE.transitions if source is AttemptState.ACCEPTED}
    assert leaving == {AttemptState.RETURNED}
    assert {AttemptState.ACCEPTED, AttemptState.REJECTED} < COUNTING_ATTEMPT_STATES
    assert FUNDED_ATTEMPT_STATES < COUNTING_ATTEMPT_STATES


def test_a_vehicle_leaves_quarantine_only_to_work_or_for_good() -> None:
    leaving = {to for source, to in VEHICLE_LIFECYCLE.transitions if source is VehicleState.QUARANTINED}
    assert leaving == {VehicleState.AVAILABLE, VehicleState.RETIRED}


@pytest.mark.parametrize("state", list(VehicleState))
def test_a_call_wakes_new_and_lost_vehicles_only(state: VehicleState) -> None:
    woken = state_on_contact(state)
    if state in {VehicleState.ENROLLED, VehicleState.LOST}:
        assert woken is VehicleState.AVAILABLE
        assert VEHICLE_LIFECYCLE.allows(state, woken)
    else:
        assert woken is state
    assert (woken in LEASABLE_STATES) == (
        state not in {VehicleState.DRAINING, VehicleState.QUARANTINED, VehicleState.RETIRED}
    )


def test_only_ready_and_running_tasks_are_undecided() -> None:
    assert set(TaskState) - DECIDED_TASK_STATES == {TaskState.READY, TaskState.RUNNING}
