"""Jobs: opening with money, adding, closing, cancelling, deadlines, lists and cursors."""

from dataclasses import replace

import pytest

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import INLINE_TENSOR_BYTES_MAX, TASKS_PER_REQUEST_MAX
from pool_server.app import jobs
from pool_server.app.work_commands import AckStatus, AddTasks, CreateJob, JobViewValue, NewTask
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.comparison import Comparator, ComparatorKind, Rule
from pool_server.core.effects import AttemptsCancelled, JobProgressed, WorkAvailable
from pool_server.core.jobs import NO_TENSORS, JobState, PriceMode, TaskState, TensorRef
from pool_server.core.verification import VerificationLevel
from tests.support.workshop import BUYER, PROGRAM, TASK_MICROS, Workshop, computed, inline, inputs_of

TERMS = CreateJob(
    buyer_id=BUYER,
    idempotency_key="k",
    name="digits",
    program=PROGRAM,
    constants=inline(b"constants"),
    price_mode=PriceMode.SPOT,
    price_micros_per_wu=100,
    budget_micros=1_000,
    level=VerificationLevel.FULL,
    comparator=Comparator(),
)


def create(pool: Workshop, command: CreateJob) -> JobViewValue:
    return pool.books.run(lambda uow: jobs.create_job(uow, command, policy=pool.policy, now_us=pool.now_us))


def refused(pool: Workshop, command: CreateJob) -> PoolError:
    with pytest.raises(PoolError) as refusal:
        create(pool, command)
    return refusal.value


def test_opening_a_job_reserves_its_budget(pool: Workshop) -> None:
    pool.books.deposit(1_500)
    view = create(pool, TERMS)
    assert view.state is JobState.OPEN
    assert (view.budget_micros, view.escrow_micros, view.spent_micros) == (1_000, 1_000, 0)
    assert pool.balance(f"buyer:{BUYER}:available") == 500
    assert pool.balance(f"job:{view.job_id}:escrow") == 1_000


def test_the_same_key_gives_the_same_job(pool: Workshop) -> None:
    pool.books.deposit(5_000)
    assert create(pool, TERMS) == create(pool, TERMS)
    assert pool.balance(f"buyer:{BUYER}:available") == 4_000
    other_buyer = replace(TERMS, buyer_id="buyer_z", budget_micros=0)
    assert create(pool, other_buyer).job_id != create(pool, TERMS).job_id


@pytest.mark.parametrize(
    "other",
    [
        replace(TERMS, budget_micros=999),
        replace(TERMS, price_micros_per_wu=99),
        replace(TERMS, level=VerificationLevel.SPOT),
        replace(TERMS, constants=NO_TENSORS),
        replace(TERMS, name="other"),
    ],
)
def test_the_same_key_with_other_terms_is_refused(pool: Workshop, other: CreateJob) -> None:
    pool.books.deposit(5_000)
    create(pool, TERMS)
    assert refused(pool, other).code is ErrorCode.EXISTS_WITH_DIFFERENT


def test_a_job_without_money_is_refused_as_a_whole(pool: Workshop) -> None:
    pool.books.deposit(999)
    assert refused(pool, TERMS).code is ErrorCode.INSUFFICIENT_FUNDS
    page = pool.books.run(lambda uow: jobs.list_jobs(uow, buyer_id=BUYER, now_us=pool.now_us))
    assert page.jobs == ()
    assert pool.balance(f"buyer:{BUYER}:available") == 999


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (replace(TERMS, idempotency_key=""), "idempotency_key"),
        (replace(TERMS, name="x" * 81), "name"),
        (replace(TERMS, program=replace(PROGRAM, work_uwu_per_task=0)), "work_uwu_per_task"),
        (replace(TERMS, steps_per_task=5), "steps_per_task"),
        (replace(TERMS, program=replace(PROGRAM, kind="step", unit_steps=2)), "steps_per_task"),
        (replace(TERMS, attempts_may_fail=13), "attempts_max"),
        (replace(TERMS, deadline_us=1), "deadline_us"),
        (replace(TERMS, budget_micros=-1), "budget_micros"),
        (replace(TERMS, price_mode=PriceMode.DONATE), "budget_micros"),
        (replace(TERMS, constants=TensorRef(inline=b"ab", size_bytes=1)), "constants"),
    ],
)
def test_terms_are_checked(pool: Workshop, command: CreateJob, field: str) -> None:
    pool.books.deposit(5_000)
    error = refused(pool, command)
    assert error.code is ErrorCode.INVALID_ARGUMENT
    assert error.context["field"] == field


def test_unverified_work_must_be_allowed_by_the_operator(pool: Workshop) -> None:
    pool.books.deposit(5_000)
    pool.policy = WorkPolicy(allow_level_none=False)
    assert refused(pool, replace(TERMS, level=VerificationLevel.NONE)).context["field"] == "level"


def test_large_inline_tensors_are_refused(pool: Workshop) -> None:
    pool.books.deposit(5_000)
    large = inline(bytes(INLINE_TENSOR_BYTES_MAX + 1))
    assert refused(pool, replace(TERMS, constants=large)).code is ErrorCode.TENSORS_TOO_LARGE


# --- tasks --------------------------------------------------------------------------------------


def refused_add(pool: Workshop, command: AddTasks) -> PoolError:
    with pytest.raises(PoolError) as refusal:
        pool.books.run(lambda uow: jobs.add_tasks(uow, command, now_us=pool.now_us))
    return refusal.value


def test_tasks_are_added_once_by_their_index(pool: Workshop) -> None:
    job_id = pool.job(0, budget_micros=10 * TASK_MICROS)
    assert pool.add(job_id, [0, 1, 2]) == 3
    assert WorkAvailable() in pool.effects
    assert pool.add(job_id, [0, 1, 2]) == 3
    # A batch that overlaps adds what is new.
    assert pool.add(job_id, [2, 3, 4]) == 5
    assert pool.view(job_id).task_count == 5
    # Also once the job is closed a repeat is no error.
    pool.close(job_id)
    assert pool.add(job_id, [3, 4]) == 5


def test_other_inputs_at_an_index_are_refused_and_nothing_is_added(pool: Workshop) -> None:
    job_id = pool.job(2, budget_micros=10 * TASK_MICROS)
    command = AddTasks(
        buyer_id=BUYER,
        job_id=job_id,
        first_index=1,
        tasks=[NewTask(inputs=inputs_of(value)) for value in (99, 2)],
    )
    error = refused_add(pool, command)
    assert error.code is ErrorCode.EXISTS_WITH_DIFFERENT
    assert error.context["index"] == "1"
    assert pool.view(job_id).task_count == 2


def test_a_batch_beyond_the_budget_is_refused_as_a_whole(pool: Workshop) -> None:
    job_id = pool.job(0, level=VerificationLevel.FULL, budget_micros=5 * TASK_MICROS)
    assert pool.add(job_id, [0, 1]) == 2
    with pytest.raises(PoolError) as refusal:
        pool.add(job_id, [2])
    assert refusal.value.code is ErrorCode.BUDGET_EXCEEDED
    assert refusal.value.context["tasks_within_budget"] == "2"
    assert pool.view(job_id).task_count == 2


@pytest.mark.parametrize("first_index", [-1, 3])
def test_a_gap_is_refused(pool: Workshop, first_index: int) -> None:
    job_id = pool.job(2, budget_micros=10 * TASK_MICROS)
    command = AddTasks(
        buyer_id=BUYER, job_id=job_id, first_index=first_index, tasks=[NewTask(inputs=inputs_of(7))]
    )
    assert refused_add(pool, command).code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize("count", [0, TASKS_PER_REQUEST_MAX + 1])
def test_batches_are_bounded(pool: Workshop, count: int) -> None:
    job_id = pool.job(0, budget_micros=1)
    command = AddTasks(
        buyer_id=BUYER, job_id=job_id, first_index=0, tasks=[NewTask(inputs=inputs_of(0))] * count
    )
    assert refused_add(pool, command).code is ErrorCode.INVALID_ARGUMENT


def test_a_closed_job_takes_no_new_tasks(pool: Workshop) -> None:
    job_id = pool.job(1, budget_micros=10 * TASK_MICROS, close=True)
    command = AddTasks(buyer_id=BUYER, job_id=job_id, first_index=1, tasks=[NewTask(inputs=inputs_of(1))])
    assert refused_add(pool, command).code is ErrorCode.JOB_CLOSED


def test_another_buyers_job_does_not_exist(pool: Workshop) -> None:
    job_id = pool.job(1)
    command = AddTasks(buyer_id="buyer_x", job_id=job_id, first_index=0, tasks=[NewTask(inputs=inputs_of(0))])
    assert refused_add(pool, command).code is ErrorCode.NOT_FOUND
    for call in (
        lambda: pool.close(job_id, buyer="buyer_x"),
        lambda: pool.cancel(job_id, buyer="buyer_x"),
        lambda: pool.books.run(lambda uow: jobs.get_job(uow, buyer_id="buyer_x", job_id=job_id, now_us=0)),
        lambda: pool.books.run(
            lambda uow: jobs.get_results(uow, buyer_id="buyer_x", job_id=job_id, indexes=[0])
        ),
        lambda: pool.books.run(
            lambda uow: jobs.decided_after(
                uow, buyer_id="buyer_x", job_id=job_id, cursor=0, limit=9, now_us=0
            )
        ),
    ):
        with pytest.raises(PoolError) as refusal:
            call()
        assert refusal.value.code is ErrorCode.NOT_FOUND


# --- ends ---------------------------------------------------------------------------------------


def test_a_job_is_done_when_closed_and_decided_and_the_rest_goes_back(pool: Workshop) -> None:
    job_id = pool.job(2, budget_micros=500)
    pool.work(pool.car("a"))
    assert pool.view(job_id).state is JobState.OPEN
    assert pool.close(job_id).state is JobState.DONE
    assert pool.close(job_id).state is JobState.DONE
    view = pool.view(job_id)
    assert (view.spent_micros, view.escrow_micros, view.ended_at_us) == (200, 0, pool.now_us)
    assert pool.balance(f"buyer:{BUYER}:available") == 300
    assert pool.balance(f"job:{job_id}:escrow") == 0


def test_an_empty_job_closes_at_once(pool: Workshop) -> None:
    job_id = pool.job(0, budget_micros=70)
    assert pool.close(job_id).state is JobState.DONE
    assert pool.balance(f"buyer:{BUYER}:available") == 70


def test_the_last_result_ends_a_closing_job(pool: Workshop) -> None:
    car = pool.car("a")
    job_id = pool.job(2, close=True)
    lease = pool.lease(car)
    pool.submit(car, lease.lease_id, [computed(lease.attempts[0])])
    assert pool.view(job_id).state is JobState.CLOSING
    pool.effects.clear()
    pool.submit(car, lease.lease_id, [computed(lease.attempts[1])])
    assert pool.view(job_id).state is JobState.DONE
    assert JobProgressed(job_id=job_id) in pool.effects


def test_cancelling_stops_what_is_undecided_and_keeps_what_was_verified(pool: Workshop) -> None:
    # 1. Of five tasks one is verified, one waits for its second result, one is under way.
    car, other = pool.car("a"), pool.car("b")
    job_id = pool.job(5, level=VerificationLevel.FULL)
    pool.hand_in(pool.lease(car, 1))
    pool.hand_in(pool.lease(other, 1))
    pool.hand_in(pool.lease(car, 1))
    running = pool.lease(other, 2)
    # 2. The buyer cancels.
    pool.effects.clear()
    view = pool.cancel(job_id)
    assert view.state is JobState.CANCELLED
    assert view.end_reason == "JOB_CANCELLED"
    assert (view.accepted_count, view.cancelled_count) == (1, 4)
    assert pool.cancel(job_id) == view
    # 3. The car is told to stop; what it hands in is late, unpaid, without blame.
    [stopped] = [effect for effect in pool.effects if isinstance(effect, AttemptsCancelled)]
    assert stopped.attempt_ids == tuple(grant.attempt_id for grant in running.attempts)
    assert stopped.reason == "JOB_CANCELLED"
    assert set(pool.hand_in(running)) == {AckStatus.LATE}
    # 4. Money: two attempts were paid, all else is back; every task has its place in the order of decisions.
    assert view.spent_micros == 2 * TASK_MICROS
    assert pool.balance(f"buyer:{BUYER}:available") == 8 * TASK_MICROS
    page = pool.decided(job_id)
    assert sorted(result.index for result in page.decided) == [0, 1, 2, 3, 4]
    cursors = [result.cursor for result in page.decided]
    assert cursors == sorted(set(cursors))
    assert page.cursor <= page.job.decided_cursor


def test_a_done_job_cannot_be_cancelled_nor_a_cancelled_one_closed(pool: Workshop) -> None:
    done = pool.job(0, budget_micros=1, close=True)
    with pytest.raises(PoolError) as refusal:
        pool.cancel(done)
    assert refusal.value.code is ErrorCode.INVALID_STATE
    cancelled = pool.job(1)
    pool.cancel(cancelled)
    with pytest.raises(PoolError) as refusal:
        pool.close(cancelled)
    assert refusal.value.code is ErrorCode.INVALID_STATE


def test_a_deadline_fails_what_is_undecided(pool: Workshop) -> None:
    job_id = pool.job(3, deadline_us=pool.now_us + 60_000_000)
    later = pool.job(1, deadline_us=pool.now_us + 99_000_000, buyer="buyer_y")
    pool.hand_in(pool.lease(pool.car("a"), 1))
    assert pool.expire_jobs() == 0
    pool.wait(seconds=60)
    assert pool.expire_jobs() == 1
    view = pool.view(job_id)
    assert (view.state, view.end_reason) == (JobState.CANCELLED, "DEADLINE_EXCEEDED")
    undecided = [pool.result(job_id, index) for index in range(3)]
    failed = [result for result in undecided if result.state is TaskState.FAILED]
    assert {result.reason for result in failed} == {"DEADLINE_EXCEEDED"}
    assert len(failed) == view.failed_count >= 1
    assert pool.view(later).state is JobState.OPEN
    assert pool.expire_jobs() == 0
    with pytest.raises(PoolError) as refusal:
        pool.add(job_id, [3])
    assert refusal.value.code is ErrorCode.JOB_CLOSED


# --- looking ------------------------------------------------------------------------------------


def test_decisions_come_once_each_in_order_from_any_cursor(pool: Workshop) -> None:
    job_id = pool.job(7)
    car = pool.car("a")
    seen: list[int] = []
    cursor = 0
    for size in (3, 2, 2):
        pool.hand_in(pool.lease(car, size))
        page = pool.decided(job_id, cursor=cursor, limit=2)
        cursor = page.cursor
        seen += [result.index for result in page.decided]
    while (page := pool.decided(job_id, cursor=cursor, limit=2)).decided:
        cursor = page.cursor
        seen += [result.index for result in page.decided]
    assert seen == list(range(7))
    assert cursor == page.job.decided_cursor == 7


def test_results_come_in_the_order_asked_undecided_ones_too(pool: Workshop) -> None:
    job_id = pool.job(3)
    pool.hand_in(pool.lease(pool.car("a"), 1))
    found = pool.books.run(
        lambda uow: jobs.get_results(uow, buyer_id=BUYER, job_id=job_id, indexes=[2, 0, 2])
    )
    assert [(result.index, result.state) for result in found] == [
        (2, TaskState.READY),
        (0, TaskState.ACCEPTED),
        (2, TaskState.READY),
    ]
    assert found[0].outputs is None
    with pytest.raises(PoolError) as refusal:
        pool.result(job_id, 3)
    assert refusal.value.code is ErrorCode.NOT_FOUND


def test_jobs_are_listed_newest_first_in_pages(pool: Workshop) -> None:
    mine = [pool.job(1) for _ in range(5)]
    other = pool.job(1, buyer="buyer_y")
    first = pool.books.run(lambda uow: jobs.list_jobs(uow, buyer_id=BUYER, limit=3, now_us=pool.now_us))
    rest = pool.books.run(
        lambda uow: jobs.list_jobs(
            uow, buyer_id=BUYER, before_job_id=first.next_before_job_id, limit=3, now_us=0
        )
    )
    assert [job.job_id for job in (*first.jobs, *rest.jobs)] == mine[::-1]
    assert rest.next_before_job_id == 0
    everyones = pool.books.run(lambda uow: jobs.list_jobs(uow, buyer_id=None, now_us=pool.now_us))
    assert [job.job_id for job in everyones.jobs] == [other, *mine[::-1]]


def test_a_job_says_why_it_waits(pool: Workshop) -> None:
    job_id = pool.job(1)
    assert pool.view(job_id).waiting_reason == "NO_VEHICLES"
    pool.ask(pool.car("a"), 0)
    assert pool.view(job_id).waiting_reason is None


def test_a_job_says_that_results_wait_for_another_owner(pool: Workshop) -> None:
    # 1. Every result of a newcomer is audited, and one owner has the only cars: two cars change nothing.
    job_id = pool.job(3, level=VerificationLevel.STANDARD, close=True)
    car = pool.car("a1", owner="owner_a")
    pool.exhaust(car, pool.car("a2", owner="owner_a"))
    view = pool.view(job_id)
    assert (view.waiting_reason, view.waiting_count) == ("WAITING_FOR_ANOTHER_OWNER", 3)
    # 2. A car that is enrolled and has not asked for work yet helps as little as one in quarantine.
    other = pool.car("b")
    assert pool.view(job_id).waiting_reason == "WAITING_FOR_ANOTHER_OWNER"
    pool.quarantine(other)
    assert pool.view(job_id).waiting_reason == "WAITING_FOR_ANOTHER_OWNER"
    # 3. Freed it is there, and while it could compute them nothing is said.
    pool.release(other)
    view = pool.view(job_id)
    assert (view.waiting_reason, view.waiting_count) == (None, 0)
    # 4. It computes them, and the job ends.
    pool.exhaust(other)
    view = pool.view(job_id)
    assert (view.state, view.waiting_reason) == (JobState.DONE, None)


def test_work_that_waits_for_no_check_does_not_wait_for_another_owner(pool: Workshop) -> None:
    car = pool.car("a")
    job_id = pool.job(3, level=VerificationLevel.FULL)
    lease = pool.lease(car, 1)
    assert pool.view(job_id).waiting_count == 0
    pool.hand_in(lease)
    assert pool.view(job_id).waiting_count == 1


COMPARATORS = (
    Comparator(),
    Comparator(kind=ComparatorKind.ULP, ulps=1),
    Comparator(kind=ComparatorKind.ULP, ulps=2),
    Comparator(kind=ComparatorKind.SET),
    Comparator(outputs={"y": Rule(kind=ComparatorKind.SET)}),
    Comparator(outputs={"y": Rule(kind=ComparatorKind.ULP, ulps=1)}),
    Comparator(outputs={"y": Rule(kind=ComparatorKind.ULP, ulps=2)}),
    Comparator(outputs={"z": Rule(kind=ComparatorKind.ULP, ulps=2)}),
)


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_a_comparator_is_kept_whole_and_is_part_of_what_the_key_stands_for(
    pool: Workshop, comparator: Comparator
) -> None:
    pool.books.deposit(5_000)
    view = create(pool, replace(TERMS, comparator=comparator))
    row = pool.books.run(lambda uow: uow.jobs.get(view.job_id))
    assert row is not None
    assert row.comparator == comparator
    for other in COMPARATORS:
        if other != comparator:
            code = refused(pool, replace(TERMS, comparator=other)).code
            assert code is ErrorCode.EXISTS_WITH_DIFFERENT
