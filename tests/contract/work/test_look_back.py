"""A caught vehicle's accepted work is looked at again: questioned, upheld, replaced, paid once, told."""

import pytest

from pool_server.app.account_events import look_back_news
from pool_server.app.expiry import settle_out_of_owners
from pool_server.app.work_commands import AckStatus, LeaseGranted, NoWorkNow
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.effects import JobProgressed
from pool_server.core.fleet import VehicleState
from pool_server.core.jobs import JobState, TaskState
from pool_server.core.trust import QuarantineRule
from pool_server.core.verification import AuditPlan, HistoryAuditRule, VerificationLevel
from pool_server.core.verification.findings import Evidence, FindingKind, FindingOutcome
from pool_server.ports.verification import FindingRow, LookBackRow, LookBackState
from pool_server.store.unit_of_work import SqlUnitOfWork
from tests.simulation.auditor import Auditor
from tests.support.workshop import TASK_MICROS, Workshop

SPOT = VerificationLevel.SPOT
NET = TASK_MICROS * 95 // 100
LIAR = "vehicle_liar"
ALWAYS, NEVER = 0.0, 0.999_999


@pytest.fixture
def sleeper(pool: Workshop) -> Workshop:
    """A liar and three honest cars, all of them with a history that makes audits rare."""
    pool.draws.drawn = ALWAYS
    for name in ("liar", "b", "c", "d"):
        pool.car(name)
    pool.job(2, level=VerificationLevel.SPOT, close=True)
    pool.exhaust(LIAR, "vehicle_b")
    pool.job(2, level=VerificationLevel.SPOT, close=True)
    pool.exhaust("vehicle_c", "vehicle_d")
    pool.draws.drawn = NEVER
    pool.books.now_us += pool.books.terms.dispute_window_us + 1
    pool.release_money()
    return pool


def do(pool: Workshop, vehicle_id: str, *, error: float = 0.0, times: int = 100) -> int:
    """Let a car take what there is, lease after lease. Returns how many attempts it made."""
    done = 0
    for _ in range(times):
        granted = pool.ask(vehicle_id)
        if isinstance(granted, NoWorkNow):
            break
        done += len(pool.hand_in(granted, error=error))
    return done


def lying_job(pool: Workshop, tasks: int = 3, *, level: VerificationLevel = SPOT, close: bool = True) -> int:
    """A job that the liar does alone, all wrong, unaudited and accepted."""
    job_id = pool.job(tasks, level=level, close=close)
    assert do(pool, LIAR, error=1.0) == tasks
    assert [pool.value(job_id, index) for index in range(tasks)] == [2.0 + index for index in range(tasks)]
    return job_id


def catch(pool: Workshop, *, by: tuple[str, ...] = ("vehicle_b", "vehicle_c")) -> int:
    """The liar lies once more, and this time it is audited."""
    pool.draws.drawn = ALWAYS
    job_id = pool.job(1, level=VerificationLevel.SPOT, close=True)
    assert do(pool, LIAR, error=1.0, times=1) == 1
    pool.draws.drawn = NEVER
    for vehicle_id in by:
        do(pool, vehicle_id)
    assert pool.vehicle(LIAR).state is VehicleState.QUARANTINED
    return job_id


def check(pool: Workshop) -> None:
    """The books balance in every respect, and rows and books say the same."""
    pool.books.assert_sound()
    Auditor(pool).check()


def told(uow: SqlUnitOfWork, owner_id: str) -> list[tuple[str, str]]:
    """What an owner reads of the liar, newest first."""
    return [(event.code, event.message) for event in look_back_news(uow, {LIAR: owner_id})][::-1]


def findings(pool: Workshop, vehicle_id: str = LIAR) -> list[FindingRow]:
    return pool.books.run(lambda uow: uow.verification.findings_of_vehicle(vehicle_id, limit=100))[::-1]


def look_backs(pool: Workshop, vehicle_id: str = LIAR) -> list[LookBackRow]:
    return pool.books.run(lambda uow: uow.verification.look_backs_of_vehicle(vehicle_id))


def balance(pool: Workshop, name: str, what: str) -> int:
    return pool.balance(f"owner:owner_{name}:{what}")


# --- questioned ---------------------------------------------------------------------------------


def test_a_caught_vehicles_held_results_are_questioned_and_its_done_job_opens_again(
    sleeper: Workshop,
) -> None:
    pool = sleeper
    job_id = lying_job(pool)
    assert pool.view(job_id).state is JobState.DONE
    assert pool.result(job_id).evidence == Evidence.HISTORY
    catch(pool)
    # 1. The look-back is open from the very command that caught it.
    assert [row.state for row in look_backs(pool)] == [LookBackState.OPENING]
    pool.effects.clear()
    pool.look_back()
    # 2. The job is open again, its tasks wait for others, its buyer is told.
    view = pool.view(job_id)
    assert (view.state, view.accepted_count, view.rechecking_count, view.ended_at_us) == (
        JobState.CLOSING,
        0,
        3,
        0,
    )
    assert JobProgressed(job_id=job_id) in pool.effects
    assert pool.result(job_id).state is TaskState.READY
    # 3. The money is set aside, neither held nor gone.
    assert (balance(pool, "liar", "held"), balance(pool, "liar", "questioned")) == (0, 3 * NET)
    [look_back] = look_backs(pool)
    assert (look_back.state, look_back.questioned_count) == (LookBackState.CHECKING, 3)
    check(pool)


def test_what_proves_wrong_is_replaced_and_its_money_taken_back(sleeper: Workshop) -> None:
    pool = sleeper
    job_id = lying_job(pool)
    cursor = pool.decided(job_id).cursor
    catch(pool)
    pool.look_back()
    spent_before = -pool.balance("x:verification")
    do(pool, "vehicle_b")
    do(pool, "vehicle_c")
    pool.look_back()
    # 1. The buyer has the right results, paid once, and a watcher is told of each.
    assert [pool.value(job_id, index) for index in range(3)] == [1.0, 2.0, 3.0]
    view = pool.view(job_id)
    assert (view.state, view.rechecking_count, view.replaced_count) == (JobState.DONE, 0, 3)
    assert view.spent_micros == 3 * TASK_MICROS
    page = pool.decided(job_id, cursor=cursor)
    assert sorted(task.index for task in page.decided) == [0, 1, 2]
    assert {task.replaced_count for task in page.decided} == {1}
    assert {task.evidence for task in page.decided} == {Evidence.AUDITED}
    # 2. The liar has nothing of it; the pool paid two owners, and got back what it had held.
    assert balance(pool, "liar", "held") == balance(pool, "liar", "questioned") == 0
    assert -pool.balance("x:verification") - spent_before == 3 * (2 * TASK_MICROS - NET)
    # 3. Each wrong result is a finding, with what was taken back.
    wrong = [row for row in findings(pool) if row.kind is FindingKind.LOOK_BACK]
    assert [(row.finding, row.clawed_back_micros, row.agreeing_owners) for row in wrong] == [
        (FindingOutcome.WRONG, NET, 2)
    ] * 3
    assert wrong[0].claimed_digest != wrong[0].accepted_digest
    [look_back] = look_backs(pool)
    assert (look_back.state, look_back.wrong_count) == (LookBackState.DONE, 3)
    news = pool.books.run(lambda uow: told(uow, "owner_liar"))
    assert [code for code, _ in news if code.startswith("LOOK")] == ["LOOK_BACK_DONE", "LOOK_BACK"]
    assert "3 results were checked again; 3 proved wrong" in dict(news)["LOOK_BACK_DONE"]
    assert pool.vehicle(LIAR).rejected_attempts == 4
    check(pool)


def test_what_was_right_is_upheld_and_its_money_held_again(sleeper: Workshop) -> None:
    pool = sleeper
    job_id = pool.job(3, level=VerificationLevel.SPOT, close=True)
    do(pool, LIAR)
    first = [pool.result(job_id, index).output_digest for index in range(3)]
    receipts = pool.books.scalar("SELECT count(*) FROM receipts WHERE vehicle_id = 'vehicle_liar'")
    catch(pool)
    pool.look_back()
    # One other owner is enough to confirm.
    do(pool, "vehicle_b")
    pool.look_back()
    view = pool.view(job_id)
    assert (view.state, view.rechecking_count, view.replaced_count) == (JobState.DONE, 0, 0)
    assert [pool.result(job_id, index).output_digest for index in range(3)] == first
    assert (balance(pool, "liar", "held"), balance(pool, "liar", "questioned")) == (3 * NET, 0)
    assert [row.finding for row in findings(pool)] == [FindingOutcome.WRONG] + [FindingOutcome.UPHELD] * 3
    # It is paid once, and counted once.
    assert pool.books.scalar("SELECT count(*) FROM receipts WHERE vehicle_id = 'vehicle_liar'") == receipts
    assert pool.vehicle(LIAR).rejected_attempts == 1
    pool.wait(seconds=5)
    pool.release_money()
    assert balance(pool, "liar", "available") > 3 * NET - 1
    check(pool)


def test_where_nobody_can_tell_the_result_stands_after_its_time(sleeper: Workshop) -> None:
    pool = sleeper
    job_id = lying_job(pool)
    catch(pool)
    pool.look_back()
    # 1. One honest car contradicts; there is no third owner, and time passes.
    do(pool, "vehicle_b")
    assert pool.view(job_id).rechecking_count == 3
    assert pool.look_back() == 0
    pool.wait(seconds=pool.policy.accept_unverified_after_us // 1_000_000 + 1)
    pool.look_back()
    # 2. Nothing was proved: the result and its money are as before, at the pool's risk.
    view = pool.view(job_id)
    assert (view.state, view.rechecking_count, view.replaced_count) == (JobState.DONE, 0, 0)
    assert pool.value(job_id) == 2.0
    assert pool.result(job_id).evidence == Evidence.RISK
    assert (balance(pool, "liar", "held"), balance(pool, "liar", "questioned")) == (3 * NET, 0)
    assert [row.finding for row in findings(pool)[1:]] == [FindingOutcome.OPEN] * 3
    assert [row.state for row in look_backs(pool)] == [LookBackState.DONE]
    check(pool)


def test_exhausted_attempts_leave_the_result_as_it_was(sleeper: Workshop) -> None:
    pool = sleeper
    job_id = lying_job(pool, 1)
    catch(pool)
    pool.look_back()
    # Every further car gives an answer of its own: nobody agrees with anybody.
    for number in range(40):
        name = pool.car(f"odd{number}")
        granted = pool.ask(name)
        if isinstance(granted, LeaseGranted):
            pool.hand_in(granted, error=5.0 + number)
    view = pool.view(job_id)
    assert (view.state, view.rechecking_count) == (JobState.DONE, 0)
    assert pool.value(job_id) == 2.0
    assert balance(pool, "liar", "held") == NET
    check(pool)


# --- what is looked at --------------------------------------------------------------------------


def test_released_money_is_not_touched_and_its_result_not_questioned(sleeper: Workshop) -> None:
    pool = sleeper
    job_id = lying_job(pool)
    pool.wait(seconds=5)
    pool.release_money()
    available = balance(pool, "liar", "available")
    catch(pool)
    pool.look_back()
    assert pool.view(job_id).state is JobState.DONE
    assert balance(pool, "liar", "available") == available
    assert [row.state for row in look_backs(pool)] == [LookBackState.DONE]
    check(pool)


def test_nothing_is_released_while_a_look_back_is_opening(sleeper: Workshop) -> None:
    pool = sleeper
    lying_job(pool)
    catch(pool)
    pool.wait(seconds=5)
    assert pool.release_money() == 0
    assert balance(pool, "liar", "held") == 3 * NET
    pool.open_look_backs()
    pool.open_look_backs()
    # Honest owners' money goes on; the questioned stays, although its window is over.
    assert pool.release_money() > 0
    assert balance(pool, "liar", "questioned") == 3 * NET
    check(pool)
    do(pool, "vehicle_b")
    do(pool, "vehicle_d")
    pool.look_back()
    assert balance(pool, "liar", "questioned") == balance(pool, "liar", "held") == 0
    check(pool)


def test_money_upheld_after_its_window_is_available_at_once(sleeper: Workshop) -> None:
    pool = sleeper
    pool.job(3, level=VerificationLevel.SPOT, close=True)
    do(pool, LIAR)
    before = balance(pool, "liar", "available")
    catch(pool)
    pool.look_back()
    pool.wait(seconds=5)
    pool.release_money()
    do(pool, "vehicle_b")
    pool.look_back()
    assert balance(pool, "liar", "questioned") == balance(pool, "liar", "held") == 0
    assert balance(pool, "liar", "available") == before + 3 * NET
    check(pool)


def test_final_work_is_not_questioned(sleeper: Workshop) -> None:
    pool = sleeper
    pool.policy = WorkPolicy(allow_level_none=True)
    first = pool.job(2, level=VerificationLevel.SPOT, close=True)
    do(pool, LIAR)
    # 200 units of clean work later the first are final, the last are not.
    pool.job(200, level=VerificationLevel.SPOT, close=True)
    do(pool, LIAR)
    assert pool.result(first).final
    last = lying_job(pool, 2)
    assert not pool.result(last).final
    catch(pool)
    pool.look_back()
    assert pool.view(first).state is JobState.DONE
    assert pool.result(first).final
    assert pool.view(last).rechecking_count == 2
    check(pool)


@pytest.mark.parametrize("how", ["none", "cancelled", "trusted"])
def test_some_results_are_left_alone(sleeper: Workshop, how: str) -> None:
    pool = sleeper
    if how == "none":
        job_id = lying_job(pool, level=VerificationLevel.NONE)
    elif how == "cancelled":
        job_id = lying_job(pool, close=False)
        pool.cancel(job_id)
    else:
        pool.trust(LIAR)
        job_id = lying_job(pool)
        assert pool.result(job_id).evidence == Evidence.TRUSTED_NODE
        pool.trust(LIAR, trusted=False)
    state = pool.view(job_id).state
    catch(pool)
    pool.look_back()
    view = pool.view(job_id)
    assert (view.state, view.rechecking_count) == (state, 0)
    check(pool)


def test_an_open_job_goes_on_while_some_of_its_results_are_checked_again(sleeper: Workshop) -> None:
    pool = sleeper
    job_id = lying_job(pool, 2, close=False)
    catch(pool)
    pool.look_back()
    pool.add(job_id, [2.0], first_index=2) if pool.view(job_id).budget_micros >= 3 * TASK_MICROS else None
    assert pool.view(job_id).state is JobState.OPEN
    do(pool, "vehicle_b")
    do(pool, "vehicle_c")
    view = pool.view(job_id)
    assert (view.accepted_count, view.rechecking_count, view.replaced_count) == (2, 0, 2)
    assert view.spent_micros == 2 * TASK_MICROS
    pool.close(job_id)
    assert pool.view(job_id).state is JobState.DONE
    check(pool)


def test_a_job_cancelled_in_the_middle_keeps_what_it_had(sleeper: Workshop) -> None:
    pool = sleeper
    job_id = lying_job(pool)
    catch(pool)
    pool.look_back()
    pool.lease("vehicle_b", 1)
    pool.cancel(job_id)
    view = pool.view(job_id)
    assert (view.state, view.accepted_count, view.rechecking_count) == (JobState.CANCELLED, 3, 0)
    assert (balance(pool, "liar", "held"), balance(pool, "liar", "questioned")) == (3 * NET, 0)
    check(pool)


def test_a_deadline_that_passes_does_not_end_a_job_that_was_done(sleeper: Workshop) -> None:
    pool = sleeper
    job_id = pool.job(2, level=VerificationLevel.SPOT, close=True, deadline_us=pool.now_us + 60_000_000)
    do(pool, LIAR, error=1.0)
    catch(pool)
    pool.look_back()
    pool.wait(seconds=120)
    assert pool.expire_jobs() == 0
    do(pool, "vehicle_b")
    do(pool, "vehicle_c")
    assert pool.view(job_id).state is JobState.DONE
    assert pool.value(job_id) == 1.0
    check(pool)


# --- groups, colluders, further look-backs ------------------------------------------------------


def test_colluders_that_audited_each_other_are_both_found(sleeper: Workshop) -> None:
    pool = sleeper
    # 1. The friend audits the liar, and agrees with it: two owners, one lie.
    friend = pool.car("friend")
    pool.draws.drawn = ALWAYS
    job_id = pool.job(1, level=VerificationLevel.SPOT, close=True)
    for vehicle_id in (LIAR, friend):
        do(pool, vehicle_id, error=1.0, times=1)
    pool.draws.drawn = NEVER
    assert pool.value(job_id) == 2.0
    assert pool.result(job_id).evidence == Evidence.AUDITED
    # 2. An honest car catches the liar elsewhere; then three outvote the two.
    catch(pool)
    pool.look_back()
    assert balance(pool, "friend", "questioned") == NET
    for name in ("b", "c", "d"):
        do(pool, f"vehicle_{name}")
    assert pool.value(job_id) == 1.0
    # 3. The friend is out as well, and unpaid.
    assert pool.vehicle(friend).state is VehicleState.QUARANTINED
    pool.look_back()
    for name in ("liar", "friend"):
        assert balance(pool, name, "held") == balance(pool, name, "questioned") == 0
    assert [row.state for row in look_backs(pool, friend)] == [LookBackState.DONE]
    check(pool)


def test_what_two_others_confirmed_is_not_questioned(sleeper: Workshop) -> None:
    pool = sleeper
    pool.policy = WorkPolicy(audit_rule=Three())
    pool.draws.drawn = ALWAYS
    job_id = pool.job(1, level=VerificationLevel.SPOT, close=True)
    for vehicle_id in (LIAR, "vehicle_b", "vehicle_c"):
        do(pool, vehicle_id, times=1)
    assert len(pool.result(job_id).paid_attempt_ids) == 3
    pool.policy = WorkPolicy()
    catch(pool)
    pool.look_back()
    assert pool.view(job_id).state is JobState.DONE
    assert pool.view(job_id).rechecking_count == 0
    check(pool)


def test_an_auditor_that_lied_with_nobody_is_upheld(sleeper: Workshop) -> None:
    pool = sleeper
    pool.draws.drawn = ALWAYS
    job_id = pool.job(1, level=VerificationLevel.SPOT, close=True)
    for vehicle_id in (LIAR, "vehicle_d"):
        do(pool, vehicle_id, times=1)
    pool.draws.drawn = NEVER
    catch(pool)
    pool.look_back()
    assert pool.view(job_id).rechecking_count == 1
    do(pool, "vehicle_b")
    pool.look_back()
    assert pool.view(job_id).state is JobState.DONE
    assert len(pool.result(job_id).paid_attempt_ids) == 3
    assert pool.vehicle("vehicle_d").state is not VehicleState.QUARANTINED
    check(pool)


def test_a_vehicle_caught_again_during_its_look_back_is_looked_at_once_more_and_comes_to_an_end(
    sleeper: Workshop,
) -> None:
    pool = sleeper
    pool.policy = WorkPolicy(allow_level_none=True, quarantine=QuarantineRule(rejections_max=100))
    first = lying_job(pool)
    pool.draws.drawn = ALWAYS
    pool.job(1, level=VerificationLevel.SPOT, close=True)
    do(pool, LIAR, error=1.0, times=1)
    pool.draws.drawn = NEVER
    do(pool, "vehicle_b")
    do(pool, "vehicle_c")
    pool.look_back()
    assert pool.view(first).rechecking_count == 3
    # Each re-check that proves it wrong opens the look-back again, and finds nothing new.
    do(pool, "vehicle_b")
    do(pool, "vehicle_c")
    [look_back] = look_backs(pool)
    assert look_back.state is LookBackState.OPENING
    assert pool.look_back() < 10
    [look_back] = look_backs(pool)
    assert (look_back.state, look_back.questioned_count, look_back.wrong_count) == (LookBackState.DONE, 3, 3)
    check(pool)


def test_a_second_look_back_leaves_alone_what_the_first_upheld(sleeper: Workshop) -> None:
    pool = sleeper
    upheld = pool.job(2, level=VerificationLevel.SPOT, close=True)
    do(pool, LIAR)
    catch(pool)
    pool.look_back()
    do(pool, "vehicle_b")
    pool.look_back()
    pool.release(LIAR)
    catch(pool, by=("vehicle_b", "vehicle_c", "vehicle_d"))
    pool.look_back()
    assert [row.state for row in look_backs(pool)] == [LookBackState.DONE, LookBackState.DONE]
    assert pool.view(upheld).rechecking_count == 0
    check(pool)


def test_a_look_back_over_many_results_goes_on_in_batches_where_it_was(
    sleeper: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = sleeper
    monkeypatch.setattr("pool_server.app.doubts.RECEIPTS_PER_SWEEP", 2)
    job_id = lying_job(pool, 5)
    catch(pool)
    seen = []
    while pool.open_look_backs():
        # Between two batches anything may happen, a restart too: all there is stands in the database.
        seen.append(pool.view(job_id).rechecking_count)
        do(pool, "vehicle_b")
        assert pool.release_money() == 0
        check(pool)
    assert seen == [2, 4, 5]
    do(pool, "vehicle_b")
    do(pool, "vehicle_c")
    pool.look_back()
    assert [pool.value(job_id, index) for index in range(5)] == [1.0, 2.0, 3.0, 4.0, 5.0]
    check(pool)


def test_a_retired_vehicles_questioned_results_are_checked_to_the_end(sleeper: Workshop) -> None:
    pool = sleeper
    job_id = lying_job(pool)
    catch(pool)
    pool.look_back()
    pool.retire(LIAR)
    assert pool.view(job_id).rechecking_count == 3
    do(pool, "vehicle_b")
    do(pool, "vehicle_c")
    assert [pool.value(job_id, index) for index in range(3)] == [1.0, 2.0, 3.0]
    assert balance(pool, "liar", "questioned") == 0
    check(pool)


def test_the_re_checks_are_paid_by_the_pool_and_the_buyer_pays_once(sleeper: Workshop) -> None:
    pool = sleeper
    job_id = lying_job(pool, 2)
    escrow = pool.balance(f"job:{job_id}:escrow")
    catch(pool)
    pool.look_back()
    do(pool, "vehicle_b")
    do(pool, "vehicle_c")
    assert escrow == pool.balance(f"job:{job_id}:escrow") == 0
    rows = pool.books.scalar(
        f"SELECT count(*) FROM attempts WHERE job_id = {job_id} AND payer = 'verification'"
    )
    assert rows == 4
    check(pool)


# --- trusted nodes ------------------------------------------------------------------------------


def test_a_trusted_node_is_never_audited_and_decides_alone(pool: Workshop) -> None:
    pool.draws.drawn = ALWAYS
    node = pool.car("node")
    pool.trust(node)
    job_id = pool.job(1, level=VerificationLevel.STRICT, close=True)
    assert pool.work(node) == [AckStatus.VERIFIED]
    assert pool.result(job_id).evidence == Evidence.TRUSTED_NODE
    assert pool.result(job_id).final


def test_a_trusted_node_outvotes_any_number(pool: Workshop) -> None:
    pool.draws.drawn = ALWAYS
    liar, node = pool.car("liar"), pool.car("node")
    pool.trust(node)
    job_id = pool.job(1, level=VerificationLevel.SPOT, close=True)
    assert pool.work(liar, error=1.0) == [AckStatus.RECORDED]
    assert pool.work(node) == [AckStatus.VERIFIED]
    assert pool.value(job_id) == 1.0
    assert pool.vehicle(liar).state is VehicleState.QUARANTINED
    [finding] = findings(pool, liar)
    assert finding.trusted_node
    assert finding.kind is FindingKind.AUDIT
    check(pool)


def test_a_trusted_node_settles_a_look_back_alone(sleeper: Workshop) -> None:
    pool = sleeper
    job_id = lying_job(pool)
    node = pool.car("node")
    pool.trust(node)
    catch(pool)
    pool.look_back()
    do(pool, node)
    pool.look_back()
    assert [pool.value(job_id, index) for index in range(3)] == [1.0, 2.0, 3.0]
    assert pool.view(job_id).state is JobState.DONE
    check(pool)


def test_trust_is_set_once_and_taken_back(pool: Workshop) -> None:
    node = pool.car("node")
    pool.trust(node)
    pool.trust(node)
    assert pool.vehicle(node).trusted
    pool.trust(node, trusted=False)
    assert not pool.vehicle(node).trusted
    events = pool.books.run(lambda uow: uow.events.of("vehicle", node))
    assert [event.cause for event in events[1:]] == [
        "an operator trusts it",
        "an operator trusts it no longer",
    ]


# --- several auditors ---------------------------------------------------------------------------


@pytest.mark.parametrize(("others", "needed"), [(0, 2), (1, 2), (2, 2), (3, 3), (4, 4), (12, 4)])
def test_a_newcomer_is_audited_by_several_as_far_as_the_others_could_outvote_it(
    pool: Workshop, others: int, needed: int
) -> None:
    # A newcomer's first result is audited for certain, by as many as the rule's bound allows.
    pool.policy = WorkPolicy(audit_rule=Three())
    for number in range(others):
        assert isinstance(pool.ask(pool.car(f"other{number}")), NoWorkNow)
    pool.job(1, level=VerificationLevel.SPOT, close=True)
    pool.work(pool.car("new"))
    assert pool.books.scalar("SELECT agreement_needed FROM tasks") == needed


class Three(HistoryAuditRule):
    """Audits every result by three owners."""

    def plan(self, *, epsilon: float, work_uwu: int, clean_uwu: int, prior_credit_uwu: int = 0) -> AuditPlan:
        return AuditPlan(catch_probability=1.0, auditors=3, draw_probability=1.0)


def test_a_task_with_several_auditors_is_decided_when_all_agree_and_the_pool_pays_them(
    pool: Workshop,
) -> None:
    pool.policy = WorkPolicy(audit_rule=Three())
    cars = [pool.car(name) for name in ("a", "b", "c", "d")]
    for car in cars:
        pool.ask(car)
    job_id = pool.job(1, level=VerificationLevel.SPOT, close=True)
    states = [pool.work(car)[0] for car in cars[:3]]
    assert states == [AckStatus.RECORDED, AckStatus.RECORDED, AckStatus.VERIFIED]
    assert -pool.balance("x:verification") == 2 * TASK_MICROS
    assert pool.result(job_id).cost_micros == TASK_MICROS
    check(pool)


@pytest.mark.parametrize(
    ("answers", "decided"),
    [
        ("rrww", None),  # two against two: nobody is believed
        ("rrrw", "r"),  # all had their turn, and three are more than one
        ("wrrr", "r"),
        ("rrr", None),  # somebody is left, and may yet be the fourth
    ],
)
def test_where_everybody_had_their_turn_the_larger_side_is_believed(
    pool: Workshop, answers: str, decided: str | None
) -> None:
    pool.policy = WorkPolicy(audit_rule=Three())
    cars = [pool.car(name) for name in ("a", "b", "c", "d")]
    pool.car("late")  # not there: it never asked for work
    for car in cars:
        pool.ask(car)
    job_id = pool.job(1, level=VerificationLevel.SPOT, close=True)
    # As if more owners had been there when the audit was drawn.
    pool.books.sql("UPDATE tasks SET agreement_needed = 4")
    for car, how in zip(cars, answers, strict=False):
        pool.work(car, error=1.0 if how == "w" else 0.0)
    if decided is None:
        assert pool.result(job_id).state is TaskState.READY
    else:
        assert pool.value(job_id) == 1.0
    check(pool)


def test_an_auditor_that_leaves_does_not_keep_a_task_waiting(pool: Workshop) -> None:
    pool.policy = WorkPolicy(audit_rule=Three())
    cars = [pool.car(name) for name in ("a", "b", "c", "d")]
    for car in cars:
        pool.ask(car)
    job_id = pool.job(1, level=VerificationLevel.SPOT, close=True)
    pool.books.sql("UPDATE tasks SET agreement_needed = 4")
    for car in cars[:3]:
        pool.work(car)

    def settle() -> int:
        return pool.books.run(lambda uow: settle_out_of_owners(uow, policy=pool.policy, now_us=pool.now_us))

    assert settle() == 0
    # The fourth goes without having looked at the task.
    pool.quarantine(cars[3])
    assert pool.result(job_id).state is TaskState.READY
    assert settle() == 1
    assert pool.view(job_id).state is JobState.DONE
    assert settle() == 0
    check(pool)


# --- earlier findings ----------------------------------------------------------------------------


def test_an_earlier_finding_does_not_spare_a_re_check(sleeper: Workshop) -> None:
    """What once lost against a result says nothing of it when its vehicle is caught."""
    pool = sleeper
    pool.draws.drawn = ALWAYS
    job_id = pool.job(1, level=VerificationLevel.SPOT, close=True)
    do(pool, LIAR, times=1)
    do(pool, pool.car("odd"), error=3.0, times=1)
    do(pool, "vehicle_b", times=1)
    assert pool.view(job_id).state is JobState.DONE
    pool.draws.drawn = NEVER
    catch(pool, by=("vehicle_c", "vehicle_d"))
    pool.look_back()
    assert pool.view(job_id).rechecking_count == 1
    do(pool, "vehicle_c")
    pool.look_back()
    assert pool.view(job_id).state is JobState.DONE
    assert pool.value(job_id) == 1.0
    check(pool)
