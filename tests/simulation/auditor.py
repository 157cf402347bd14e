"""The auditor: a simple model of what the pool may and must do, fed with every command and its answer.

It shares no code with the pool's decisions. From the answers it knows which attempts each owner has, what was
handed in and what was acknowledged; from the database it reads only sums and rows that a person would check
by hand. Any contradiction is an `AuditError` that says what is wrong.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pool_protocol import tensors
from pool_server.app.work_commands import AckStatus, AttemptAckValue, LeaseGranted, NoWorkNow
from pool_server.core.matching import NoWorkReason
from tests.support.workshop import Workshop

NO_RESULT_ACKS = frozenset({AckStatus.LATE, AckStatus.REFUSED})


Rows = Sequence[Any]


class AuditError(AssertionError):
    """The pool did what it must not do."""


@dataclass(slots=True)
class KnownAttempt:
    """What the auditor knows of one attempt."""

    attempt_id: int
    lease_id: int
    vehicle_id: str
    owner_id: str
    job_id: int
    question: float
    """The task's input: names the task."""
    expires_at_us: int
    answers: dict[str, AckStatus] = field(default_factory=dict)
    """What was handed in -> the first acknowledgement."""


class Auditor:
    """See the module."""

    def __init__(self, pool: Workshop) -> None:
        self.pool = pool
        self.attempts: dict[int, KnownAttempt] = {}
        self.owners: dict[str, str] = {}
        self.decided: dict[tuple[int, int, int], tuple[str, bytes, int]] = {}
        """By job, index, and how often a look-back replaced the result: nothing else changes it."""
        self.quarantined: set[str] = set()
        self.verified: set[int] = set()
        self.grants = 0

    # --- what is seen ---------------------------------------------------------------------------

    def saw_lease(self, vehicle_id: str, answer: LeaseGranted | NoWorkNow, *, now_us: int) -> None:
        """A vehicle asked for work and got this."""
        if isinstance(answer, NoWorkNow):
            if answer.reason is NoWorkReason.QUARANTINED:
                self._require(
                    vehicle_id in self.quarantined, f"{vehicle_id} is told of a quarantine it is not in"
                )
            return
        self._require(vehicle_id not in self.quarantined, f"{vehicle_id} is in quarantine and got a lease")
        self._require(answer.vehicle_id == vehicle_id, "a lease is for another vehicle")
        self._require(answer.expires_at_us > now_us, f"lease {answer.lease_id} had ended when it was given")
        self._require(len(answer.attempts) > 0, f"lease {answer.lease_id} is empty")
        for grant in answer.attempts:
            known = self.attempts.get(grant.attempt_id)
            if answer.resent:
                self._require(
                    known is not None, f"attempt {grant.attempt_id} is sent again and was never sent"
                )
                continue
            self._require(known is None, f"attempt {grant.attempt_id} was given twice")
            self.grants += 1
            self.attempts[grant.attempt_id] = KnownAttempt(
                attempt_id=grant.attempt_id,
                lease_id=answer.lease_id,
                vehicle_id=vehicle_id,
                owner_id=self.owners[vehicle_id],
                job_id=answer.job_id,
                question=question_of(grant.inputs.inline or b""),
                expires_at_us=answer.expires_at_us,
            )

    def saw_acks(self, sent: dict[int, str], acks: list[AttemptAckValue]) -> None:
        """A vehicle handed in these answers (attempt -> a word for what) and got these acknowledgements."""
        self._require(
            [ack.attempt_id for ack in acks] == list(sent), "acknowledgements are not those of the reports"
        )
        for ack in acks:
            known = self.attempts[ack.attempt_id]
            what = sent[ack.attempt_id]
            first = known.answers.get(what)
            if first is None:
                taken = [status for status in known.answers.values() if status not in NO_RESULT_ACKS]
                if taken:
                    self._require(
                        ack.status in NO_RESULT_ACKS, f"attempt {ack.attempt_id} took a second, other answer"
                    )
                known.answers[what] = ack.status
            elif first in NO_RESULT_ACKS:
                self._require(
                    ack.status in {first, AckStatus.LATE, AckStatus.REFUSED},
                    f"attempt {ack.attempt_id} was {first}, and now {ack.status}",
                )
            else:
                self._require(
                    ack.status in {AckStatus.DUPLICATE, AckStatus.LATE},
                    f"attempt {ack.attempt_id} was taken twice: {first}, {ack.status}",
                )
            if ack.status is AckStatus.VERIFIED:
                self._require(ack.attempt_id not in self.verified, f"attempt {ack.attempt_id} verified twice")
                self.verified.add(ack.attempt_id)

    # --- what must hold after every step --------------------------------------------------------

    def check(self) -> None:
        """Read the books and rows, and compare."""
        with self.pool.books.engine.begin() as connection:
            rows = connection.exec_driver_sql(
                "SELECT attempt_id, job_id, task_id, owner_id, state, payer, amount_micros, "
                "pending_transfer_id FROM attempts"
            ).fetchall()
            tasks = connection.exec_driver_sql(
                "SELECT t.job_id, t.task_index, t.state, a.output_digest, "
                "t.canonical_attempt_id, t.cost_micros, t.task_id, j.level, j.price_micros_per_wu, "
                "t.replaced_count, t.evidence "
                "FROM tasks AS t JOIN jobs AS j ON j.job_id = t.job_id "
                "LEFT JOIN attempts AS a ON a.attempt_id = t.canonical_attempt_id"
            ).fetchall()
            accounts = connection.exec_driver_sql(
                "SELECT name, debits_pending, debits_posted, credits_pending, credits_posted FROM accounts"
            ).fetchall()
            jobs = connection.exec_driver_sql(
                "SELECT job_id, budget_micros, spent_micros, state, task_count, ready_count, accepted_count, "
                "failed_count, cancelled_count FROM jobs"
            ).fetchall()
            asked = connection.exec_driver_sql(
                "SELECT attempt_id FROM questioned_attempts WHERE state = 'open'"
            ).fetchall()
            held = connection.exec_driver_sql(
                "SELECT vehicle_id FROM fleet_vehicles WHERE state = 'quarantined'"
            ).fetchall()
        self.quarantined = {row[0] for row in held}
        self._check_attempts(rows)
        self._check_tasks(tasks, rows)
        self._check_money(accounts, jobs, rows, questioned={row[0] for row in asked})
        self._check_jobs(jobs, tasks)

    def _check_attempts(self, rows: Rows) -> None:
        counting: set[tuple[object, object]] = set()
        for attempt_id, _job_id, task_id, owner_id, state, *_rest in rows:
            if state in {"leased", "returned", "accepted", "rejected"}:
                self._require(
                    (task_id, owner_id) not in counting,
                    f"{owner_id} is on task {task_id} twice ({attempt_id})",
                )
                counting.add((task_id, owner_id))

    def _check_tasks(self, tasks: Rows, rows: Rows) -> None:
        paid: dict[tuple[object, str], int] = defaultdict(int)
        for _attempt_id, _job_id, task_id, _owner_id, state, payer, *_money in rows:
            if state == "accepted":
                paid[task_id, str(payer)] += 1
        for job_id, index, state, digest, canonical, cost, task_id, level, price, replaced, why in tasks:
            quorum = 2 if level == "full" else 1
            by_job = paid[task_id, "job"]
            self._require(by_job <= quorum, f"job {job_id} pays {by_job} attempts of task {index}")
            if state == "accepted":
                # A result that a look-back replaced, or that one word was enough for, may cost less.
                full = not replaced and why not in {"RISK", "TRUSTED_NODE"}
                self._require(
                    by_job == quorum or not full, f"job {job_id} pays {by_job} of task {index}, not {quorum}"
                )
                self._require(int(str(cost)) <= quorum * int(str(price)), f"task {index} costs {cost}")
            else:
                self._require(not paid[task_id, "job"] and not paid[task_id, "verification"], "paid and open")
            if state in {"accepted", "failed", "cancelled"}:
                key = (int(str(job_id)), int(str(index)), int(str(replaced)))
                fact = (str(state), bytes(digest or b""), int(str(canonical)))
                self._require(self.decided.setdefault(key, fact) == fact, f"task {key} was decided again")

    def _check_money(
        self,
        accounts: Rows,
        jobs: Rows,
        rows: Rows,
        *,
        questioned: set[Any],
    ) -> None:
        figures = {str(name): tuple(int(str(one)) for one in counters) for name, *counters in accounts}
        debited = sum(one[1] for one in figures.values())
        credited = sum(one[3] for one in figures.values())
        self._require(debited == credited, f"debits {debited} and credits {credited} differ")
        pending: dict[str, int] = defaultdict(int)
        for attempt_id, job_id, _task_id, _owner_id, state, payer, amount, transfer_id in rows:
            if state in {"leased", "returned"} and attempt_id not in questioned:
                self._require(bool(transfer_id) == bool(amount), "an attempt under way has no money")
                pending[f"job:{job_id}:escrow" if payer == "job" else "x:verification"] += int(str(amount))
        for name, (debits_pending, *_others) in figures.items():
            if name.startswith("job:") or name == "x:verification":
                self._require(
                    debits_pending == pending[name], f"{name}: {debits_pending} pending, not {pending[name]}"
                )
        for job_id, budget, spent, state, *_counts in jobs:
            name = f"job:{job_id}:escrow"
            _pending, posted, _in, paid_in = figures.get(name, (0, 0, 0, 0))
            self._require(paid_in == int(str(budget)) or budget == 0, f"job {job_id} reserved {paid_in}")
            self._require(int(str(spent)) <= int(str(budget)), f"job {job_id} spent {spent} of {budget}")
            if state in {"done", "cancelled"}:
                self._require(posted == paid_in, f"job {job_id} has ended and keeps {paid_in - posted}")
            else:
                self._require(
                    posted == int(str(spent)), f"job {job_id} spent {spent}, its books say {posted}"
                )

    def _check_jobs(self, jobs: Rows, tasks: Rows) -> None:
        counts: dict[object, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for job_id, _index, state, *_rest in tasks:
            counts[job_id][str(state)] += 1
        for job_id, _budget, _spent, _state, total, ready, accepted, failed, cancelled in jobs:
            found = counts[job_id]
            self._require(
                (sum(found.values()), found["ready"], found["accepted"], found["failed"], found["cancelled"])
                == (total, ready, accepted, failed, cancelled),
                f"job {job_id} counts wrongly: {dict(found)}",
            )

    def _require(self, holds: object, otherwise: str) -> None:
        if not holds:
            raise AuditError(otherwise)


def question_of(inputs: bytes) -> float:
    """Read the number that a test's task asks about."""
    [x] = tensors.decode(inputs).values()
    return float(x[0])
