"""Verification over real books: quorum, audits, disagreement, quarantine, and who pays for what."""

import numpy as np
import pytest

from pool_protocol import tensors
from pool_protocol.digests import output_digest, sha256_hex
from pool_protocol.limits import ATTEMPTS_PER_TASK_MAX
from pool_server.app.work_commands import AckStatus, AttemptReport, NoWorkNow
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.comparison import Comparator, ComparatorKind
from pool_server.core.effects import AttemptsCancelled, JobProgressed, VehicleQuarantined, WorkAvailable
from pool_server.core.fleet import VehicleState
from pool_server.core.jobs import AttemptOutcome, PriceMode, TaskState, TensorRef
from pool_server.core.ledger.model import Account
from pool_server.core.settlement import MoneyTerms
from pool_server.core.trust import QuarantineRule
from pool_server.core.verification import AuditPlan, HistoryAuditRule, VerificationLevel
from tests.support.workshop import TASK_MICROS, SetDraws, Workshop, answer, report

RECORDED, VERIFIED = AckStatus.RECORDED, AckStatus.VERIFIED
NET_MICROS = TASK_MICROS * 95 // 100
CLOSE = Comparator(kind=ComparatorKind.CLOSE, atol=0.5)


def verification_cost(pool: Workshop) -> int:
    return -pool.balance("x:verification")


def test_full_takes_two_owners_and_the_job_pays_both(pool: Workshop) -> None:
    job_id = pool.job(1, level=VerificationLevel.FULL, close=True)
    assert pool.work(pool.car("a")) == [RECORDED]
    assert pool.held("a") == 0
    assert pool.result(job_id).state is TaskState.READY
    assert pool.work(pool.car("b")) == [VERIFIED]
    assert pool.held("a") == pool.held("b") == NET_MICROS
    found = pool.result(job_id)
    assert found.cost_micros == 2 * TASK_MICROS
    assert len(found.paid_attempt_ids) == 2
    assert verification_cost(pool) == 0
    assert pool.view(job_id).state == "done"


@pytest.mark.parametrize("liar_first", [True, False])
def test_a_wrong_result_is_outvoted_unpaid_and_quarantined(pool: Workshop, *, liar_first: bool) -> None:
    # 1. A liar and an honest car disagree; whoever came first, nobody is believed yet.
    liar, honest, judge = pool.car("liar"), pool.car("honest"), pool.car("judge")
    job_id = pool.job(1, level=VerificationLevel.FULL, close=True)
    for car in (liar, honest) if liar_first else (honest, liar):
        assert pool.work(car, error=1.0 if car == liar else 0.0) == [RECORDED]
    assert pool.result(job_id).state is TaskState.READY
    # 2. A third owner settles it.
    assert pool.work(judge) == [VERIFIED]
    found = pool.result(job_id)
    assert pool.value(job_id) == 1.0
    # 3. The job pays its two, not three; the liar is unpaid and out.
    assert found.cost_micros == 2 * TASK_MICROS
    assert pool.held("liar") == 0
    assert pool.held("honest") == pool.held("judge") == NET_MICROS
    assert verification_cost(pool) == 0
    view = pool.vehicle(liar)
    assert (view.state, view.quarantine_reason, view.rejected_attempts) == (
        VehicleState.QUARANTINED,
        "WRONG_RESULT",
        1,
    )
    assert pool.view(job_id).rejected_count == 1
    assert VehicleQuarantined(vehicle_id=liar, owner_id="owner_liar", reason="WRONG_RESULT") in pool.effects


def test_a_newcomer_is_audited_at_the_pools_cost(pool: Workshop) -> None:
    job_id = pool.job(1, level=VerificationLevel.STANDARD, close=True)
    # A vehicle without history is audited whatever is drawn.
    assert pool.work(pool.car("a")) == [RECORDED]
    assert pool.work(pool.car("b")) == [VERIFIED]
    assert pool.held("a") == pool.held("b") == NET_MICROS
    assert pool.result(job_id).cost_micros == TASK_MICROS
    assert len(pool.result(job_id).paid_attempt_ids) == 2
    assert verification_cost(pool) == TASK_MICROS


def test_history_frees_from_audits_and_a_failed_check_ends_it(pool: Workshop) -> None:
    veteran, other = pool.car("a"), pool.car("b")
    pool.job(3, level=VerificationLevel.STANDARD)
    pool.exhaust(veteran, other)
    assert pool.vehicle(veteran).clean_uwu == 3_000_000
    # With 3 clean units and k = 200, p = 200 / 203: drawn above it there is no audit.
    pool.draws.drawn = 200 / 203 + 1e-9
    next_job = pool.job(1, level=VerificationLevel.STANDARD)
    assert pool.work(veteran) == [VERIFIED]
    assert pool.vehicle(veteran).clean_uwu == 4_000_000
    assert pool.result(next_job).attempt_count == 1
    # Drawn below it there is one; caught, the history is gone.
    pool.draws.drawn = 0.0
    pool.job(1, level=VerificationLevel.STANDARD)
    assert pool.work(veteran, error=1.0) == [RECORDED]
    assert pool.work(other) == [RECORDED]
    assert pool.work(pool.car("c")) == [VERIFIED]
    assert pool.vehicle(veteran).clean_uwu == 0
    assert pool.vehicle(veteran).state is VehicleState.QUARANTINED


def test_a_caught_liars_job_still_pays_for_one_result(pool: Workshop) -> None:
    """Liar, audit, tie-break: the job pays one of the two that agree, the pool the other."""
    job_id = pool.job(1, level=VerificationLevel.STANDARD, close=True)
    pool.work(pool.car("liar"), error=1.0)
    pool.work(pool.car("audit"))
    pool.work(pool.car("third"))
    assert pool.result(job_id).cost_micros == TASK_MICROS
    assert verification_cost(pool) == TASK_MICROS
    assert pool.held("liar") == 0
    assert pool.held("audit") == pool.held("third") == NET_MICROS
    assert pool.balance("buyer:buyer_b:available") == 0


def test_work_without_verification_builds_no_history(pool: Workshop) -> None:
    car = pool.car("a")
    pool.job(5)
    pool.work(car)
    assert pool.vehicle(car).clean_uwu == 0
    assert pool.vehicle(car).verified_attempts == 5


def test_history_of_one_level_does_not_count_at_another(pool: Workshop) -> None:
    car, other = pool.car("a"), pool.car("b")
    pool.job(4, level=VerificationLevel.FULL)
    pool.exhaust(car, other)
    assert pool.vehicle(car).clean_uwu == 4_000_000
    pool.job(1, level=VerificationLevel.STRICT)
    assert pool.work(car) == [RECORDED]


def test_quarantine_takes_back_what_was_not_judged(pool: Workshop) -> None:
    # 1. A liar hands in one result that waits for a second, and holds a lease of two more.
    liar, first, second = pool.car("liar"), pool.car("x"), pool.car("y")
    job_id = pool.job(3, level=VerificationLevel.FULL, close=True)
    wrong = pool.lease(liar, 1)
    pool.hand_in(wrong, error=1.0)
    open_lease = pool.lease(liar, 1)
    # 2. An operator has seen enough.
    pool.effects.clear()
    pool.quarantine(liar)
    assert (
        AttemptsCancelled(
            vehicle_id=liar,
            attempt_ids=tuple(grant.attempt_id for grant in open_lease.attempts),
            reason="QUARANTINED",
        )
        in pool.effects
    )
    assert WorkAvailable() in pool.effects
    # 3. Nothing of it counts, nothing is owed, and others do the work.
    assert pool.hand_in(open_lease) == [AckStatus.LATE]
    assert [escrow.debits_pending_micros for escrow in escrows(pool, job_id)] == [0]
    pool.exhaust(first, second)
    assert pool.view(job_id).state == "done"
    assert pool.value(job_id, 0) == 1.0
    assert pool.held("liar") == 0
    assert pool.view(job_id).rejected_count == 0


def escrows(pool: Workshop, job_id: int) -> list[Account]:
    return pool.books.run(lambda uow: uow.ledger.accounts_by_prefix(f"job:{job_id}:escrow"))


def test_being_caught_ends_everything_else_under_way(pool: Workshop) -> None:
    # The liar's other lease is of another buyer's job; it goes to others when it is caught.
    liar = pool.car("liar")
    caught_in = pool.job(1, level=VerificationLevel.FULL)
    pool.work(liar, error=1.0)
    elsewhere = pool.job(1, buyer="buyer_y")
    pool.lease(liar)
    pool.work(pool.car("x"))
    pool.effects.clear()
    pool.work(pool.car("y"))
    assert pool.vehicle(liar).state is VehicleState.QUARANTINED
    assert pool.vehicle(liar).running_attempts == 0
    assert pool.result(caught_in).state is TaskState.ACCEPTED
    assert pool.work(pool.car("z")) == [VERIFIED]
    assert pool.result(elsewhere).state is TaskState.ACCEPTED
    assert {type(effect) for effect in pool.effects} >= {AttemptsCancelled, JobProgressed, VehicleQuarantined}


def test_a_freed_vehicle_starts_with_a_clean_slate(pool: Workshop) -> None:
    pool.policy = WorkPolicy(allow_level_none=True, quarantine=QuarantineRule(rejections_max=2))
    odd = pool.car("odd")
    for _ in range(2):
        pool.job(1, level=VerificationLevel.FULL)
        pool.work(odd, error=1.0)
        for name in "xy":
            pool.work(pool.car(name))
    assert pool.vehicle(odd).state is VehicleState.QUARANTINED
    pool.release(odd)
    assert pool.vehicle(odd).state is VehicleState.AVAILABLE
    pool.job(1, level=VerificationLevel.FULL)
    pool.work(odd, error=1.0)
    for name in "xy":
        pool.work(pool.car(name))
    assert pool.vehicle(odd).state is VehicleState.AVAILABLE
    assert pool.vehicle(odd).rejected_attempts == 3


def test_results_that_never_agree_are_given_up(pool: Workshop) -> None:
    job_id = pool.job(1, level=VerificationLevel.FULL, close=True)
    for number in range(ATTEMPTS_PER_TASK_MAX):
        pool.work(pool.car(f"n{number}"), error=float(number + 1))
    found = pool.result(job_id)
    assert (found.state, found.reason, found.attempt_count) == (
        TaskState.FAILED,
        "VERIFICATION_UNDECIDED",
        ATTEMPTS_PER_TASK_MAX,
    )
    assert pool.balance("buyer:buyer_b:available") == 2 * TASK_MICROS
    assert verification_cost(pool) == 0
    assert all(pool.held(f"n{number}") == 0 for number in range(ATTEMPTS_PER_TASK_MAX))
    # Nobody knows who was wrong, so nobody is blamed.
    assert all(
        pool.vehicle(f"vehicle_n{number}").rejected_attempts == 0 for number in range(ATTEMPTS_PER_TASK_MAX)
    )


def test_a_lone_owner_waits_for_a_second(pool: Workshop) -> None:
    job_id = pool.job(1, level=VerificationLevel.FULL)
    car = pool.car("a")
    pool.work(car)
    pool.wait(seconds=100_000)
    assert isinstance(pool.ask(car), NoWorkNow)
    assert pool.result(job_id).state is TaskState.READY
    assert pool.work(pool.car("b")) == [VERIFIED]


def test_close_results_agree_and_the_first_is_canonical(pool: Workshop) -> None:
    job_id = pool.job(1, level=VerificationLevel.FULL, comparator=CLOSE)
    pool.work(pool.car("a"))
    assert pool.work(pool.car("b"), error=0.25) == [VERIFIED]
    assert pool.value(job_id) == 1.0
    assert pool.held("a") == pool.held("b") == NET_MICROS


def test_what_is_not_close_is_wrong(pool: Workshop) -> None:
    job_id = pool.job(1, level=VerificationLevel.FULL, comparator=CLOSE)
    pool.work(pool.car("liar"), error=0.75)
    pool.work(pool.car("b"), error=0.125)
    assert pool.work(pool.car("c")) == [VERIFIED]
    assert pool.value(job_id) == 1.125
    assert pool.vehicle("vehicle_liar").state is VehicleState.QUARANTINED


class Blobs:
    """A blob store in memory."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    def put(self, content: bytes) -> TensorRef:
        name = sha256_hex(content)
        self.contents[name] = content
        return TensorRef(blob_sha256=name, size_bytes=len(content))

    def get(self, blob_sha256: str) -> bytes:
        return self.contents[blob_sha256]


def test_large_outputs_are_compared_from_the_blob_store_and_the_buyer_may_read_them(pool: Workshop) -> None:
    blobs = Blobs()
    pool.blobs = blobs
    job_id = pool.job(1, level=VerificationLevel.FULL, comparator=CLOSE)
    statuses: list[AckStatus] = []
    for name, value in (("a", 1.0), ("b", 1.25)):
        car = pool.car(name)
        lease = pool.lease(car)
        ref = blobs.put(tensors.encode(answer(value)))
        with pool.books.command() as uow:
            uow.blobs.add(ref.blob_sha256 or "", size_bytes=ref.size_bytes, uploader=car, now_us=pool.now_us)
        one = AttemptReport(
            attempt_id=lease.attempts[0].attempt_id,
            outcome=AttemptOutcome.COMPLETED,
            output_digest=output_digest(answer(value)),
            outputs=ref,
        )
        statuses.append(pool.submit(car, lease.lease_id, [one])[0].status)
    assert statuses == [RECORDED, VERIFIED]
    outputs = pool.result(job_id).outputs
    assert outputs is not None
    assert outputs.blob_sha256 is not None
    canonical = outputs.blob_sha256
    assert tensors.decode(blobs.get(canonical))["y"][0] == np.float32(1.0)
    assert pool.books.run(lambda uow: uow.blobs.may_read(canonical, holder="buyer_b"))
    assert not pool.books.run(lambda uow: uow.blobs.may_read(canonical, holder="buyer_x"))


def test_donated_work_is_verified_and_receipted_for_nothing(pool: Workshop) -> None:
    job_id = pool.job(
        1, level=VerificationLevel.FULL, price_mode=PriceMode.DONATE, price_micros_per_wu=0, close=True
    )
    pool.work(pool.car("a"))
    pool.work(pool.car("b"))
    paid = pool.result(job_id).paid_attempt_ids
    receipts = pool.books.run(lambda uow: uow.receipts.by_attempts(paid))
    assert [(receipt.gross_micros, receipt.transfer_id) for receipt in receipts] == [(0, None), (0, None)]
    assert pool.view(job_id).state == "done"


def test_a_rule_for_audits_can_be_replaced(pool: Workshop) -> None:
    class Never:
        def probability(self, *, epsilon: float, work_uwu: int, clean_uwu: int) -> float:
            return 0.0

        def plan(self, *, epsilon: float, work_uwu: int, clean_uwu: int) -> AuditPlan:
            return AuditPlan(catch_probability=0.0, auditors=1, draw_probability=0.0)

    pool.policy = WorkPolicy(audit_rule=Never())
    pool.draws.drawn = 0.0
    pool.job(1, level=VerificationLevel.STRICT)
    assert pool.work(pool.car("a")) == [VERIFIED]
    assert isinstance(WorkPolicy().audit_rule, HistoryAuditRule)


def test_the_draw_is_bound_to_what_was_committed(pool: Workshop) -> None:
    class Recording(SetDraws):
        seen: list[tuple[bytes, int]]

        def uniform(self, *, output_digest: bytes, attempt_id: int) -> float:
            self.seen.append((output_digest, attempt_id))
            return 0.0

    draws = Recording()
    draws.seen = []
    pool.draws = draws
    pool.job(2, level=VerificationLevel.SPOT)
    lease = pool.lease(pool.car("a"))
    pool.hand_in(lease)
    assert draws.seen == [
        (output_digest(answer(float(index + 1))), grant.attempt_id)
        for index, grant in enumerate(lease.attempts)
    ]
    # An audited task is not drawn again, nor is one of a level without audits.
    pool.work(pool.car("b"))
    pool.job(1)
    pool.work(pool.car("c"))
    assert len(draws.seen) == 2


def test_the_money_terms_of_these_stories_are_as_assumed(pool: Workshop) -> None:
    terms: MoneyTerms = pool.books.terms
    assert (terms.posted_price_micros_per_wu, terms.fee_ppm) == (100, 50_000)
    assert report(1).outputs.inline is None
