"""Jobs in SQL: rows to values and back, guarded moves, counters."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pool_protocol.errors import InvariantError
from pool_server.core.comparison import Comparator, ComparatorKind, Rule
from pool_server.core.jobs import (
    JobState,
    OutputSpec,
    PriceMode,
    PriceTerms,
    RetryBounds,
    TensorRef,
)
from pool_server.core.matching import BuyerShare
from pool_server.core.verification import VerificationLevel
from pool_server.ports.market import OfferRow
from pool_server.ports.work import JobDelta, JobRow
from pool_server.store.driver import Driver
from pool_server.store.statements import marks
from pool_server.store.tables.work import JOB_HAS_READY_TASKS

_COLUMNS = (
    "job_id, buyer_id, idempotency_key, request_sha256, name, state, program_sha256, kind, "
    "work_uwu_per_task, unit_steps, steps_per_task, outputs_json, price_mode, price_micros_per_wu, "
    "budget_micros, level, comparator, rtol, atol, failures_max, attempts_max, deadline_us, "
    "created_at_us, ended_at_us, end_reason, task_count, ready_count, urgent_count, accepted_count, "
    "failed_count, cancelled_count, attempt_count, rejected_count, spent_micros, decided_seq, "
    "last_lease_id, rechecking_count, replaced_count, ulps, output_comparators_json, "
    "certificate_sha256, certificate_failures, price_start_micros_per_wu, quoted_task_count"
)
_SELECT = f"SELECT {_COLUMNS} FROM jobs"
_INSERT = f"INSERT INTO jobs ({_COLUMNS}) VALUES ({marks(44)})"
_OFFERS = (
    "SELECT job_id, jobs.buyer_id, program_sha256, price_mode, price_micros_per_wu, "
    "price_start_micros_per_wu, deadline_us, "
    "task_count - accepted_count - failed_count - cancelled_count, work_uwu_per_task, last_lease_id, "
    "COALESCE(buyer_shares.tag_uwu, 0), COALESCE(buyer_shares.lease_uwu, 0) FROM jobs "
    f"LEFT JOIN buyer_shares ON buyer_shares.buyer_id = jobs.buyer_id WHERE {JOB_HAS_READY_TASKS}"
)
_ADD = (
    "UPDATE jobs SET task_count = task_count + ?, ready_count = ready_count + ?, "
    "urgent_count = urgent_count + ?, accepted_count = accepted_count + ?, failed_count = failed_count + ?, "
    "cancelled_count = cancelled_count + ?, attempt_count = attempt_count + ?, "
    "rejected_count = rejected_count + ?, spent_micros = spent_micros + ?, decided_seq = decided_seq + ?, "
    "rechecking_count = rechecking_count + ?, replaced_count = replaced_count + ?, "
    "certificate_failures = certificate_failures + ?, "
    "last_lease_id = CASE WHEN ? > 0 THEN ? ELSE last_lease_id END WHERE job_id = ?"
)
#: Every lease reads all offers: a look-up costs a tenth of what the enumeration's own does.
_MODES = {mode.value: mode for mode in PriceMode}


class SqlJobRepository:
    """Implements `ports.work.JobRepository`."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    def insert(self, job: JobRow, constants: TensorRef) -> None:
        """Insert a job and its constants."""
        self._driver.run(_INSERT, _values(job))
        self._driver.run(
            "INSERT INTO job_constants (job_id, inline, blob_sha256, size_bytes) VALUES (?, ?, ?, ?)",
            (job.job_id, constants.inline, constants.blob_sha256, constants.size_bytes),
        )

    def get(self, job_id: int) -> JobRow | None:
        """Read a job."""
        return self._one(f"{_SELECT} WHERE job_id = ?", (job_id,))

    def by_key(self, buyer_id: str, idempotency_key: str) -> JobRow | None:
        """Read the job that a buyer opened with this key."""
        return self._one(f"{_SELECT} WHERE buyer_id = ? AND idempotency_key = ?", (buyer_id, idempotency_key))

    def constants(self, job_id: int) -> TensorRef:
        """Read a job's constants."""
        row = self._driver.run(
            "SELECT inline, blob_sha256, size_bytes FROM job_constants WHERE job_id = ?", (job_id,)
        ).one()
        return TensorRef(inline=row[0], blob_sha256=row[1], size_bytes=row[2])

    def offers(self) -> list[OfferRow]:
        """All active jobs that have ready tasks."""
        return [_offer(row) for row in self._driver.run(_OFFERS)]

    def page(self, *, buyer_id: str | None, before_job_id: int, limit: int) -> list[JobRow]:
        """Jobs with smaller ids (0: from the newest), newest first."""
        clauses, parameters = ["1 = 1"], []
        if buyer_id is not None:
            clauses.append("buyer_id = ?")
            parameters.append(buyer_id)
        values: list[Any] = list(parameters)
        if before_job_id > 0:
            clauses.append("job_id < ?")
            values.append(before_job_id)
        query = f"{_SELECT} WHERE {' AND '.join(clauses)} ORDER BY job_id DESC LIMIT ?"
        return self._many(query, (*values, limit))

    def due(self, *, now_us: int, limit: int) -> list[JobRow]:
        """Active jobs whose deadline has passed, by (deadline, id)."""
        return self._many(
            f"{_SELECT} WHERE deadline_us > 0 AND state IN ('open', 'closing') AND deadline_us <= ? "
            # A job that was done and whose results are checked again keeps them, whatever the time.
            "AND NOT (state = 'closing' AND rechecking_count > 0 "
            "AND rechecking_count = task_count - accepted_count - failed_count - cancelled_count) "
            "ORDER BY deadline_us, job_id LIMIT ?",
            (now_us, limit),
        )

    def move(
        self,
        job_id: int,
        *,
        from_states: Sequence[JobState],
        to_state: JobState,
        ended_at_us: int,
        end_reason: str,
    ) -> bool:
        """Move a job if it is in one of the states; True when this call did it."""
        result = self._driver.run(
            "UPDATE jobs SET state = ?, ended_at_us = ?, end_reason = ? "
            f"WHERE job_id = ? AND state IN ({marks(len(from_states))})",
            (to_state.value, ended_at_us, end_reason, job_id, *(state.value for state in from_states)),
        )
        return result.rowcount == 1

    def add(self, job_id: int, delta: JobDelta) -> None:
        """Add to a job's counters."""
        result = self._driver.run(
            _ADD,
            (
                delta.task_count,
                delta.ready_count,
                delta.urgent_count,
                delta.accepted_count,
                delta.failed_count,
                delta.cancelled_count,
                delta.attempt_count,
                delta.rejected_count,
                delta.spent_micros,
                delta.decided_seq,
                delta.rechecking_count,
                delta.replaced_count,
                delta.certificate_failures,
                delta.last_lease_id,
                delta.last_lease_id,
                job_id,
            ),
        )
        if result.rowcount != 1:
            raise InvariantError(f"job {job_id} is not there to be counted")

    def counts_by_state(self) -> dict[str, int]:
        """Jobs by state."""
        rows = self._driver.run("SELECT state, count(*) FROM jobs GROUP BY state")
        return {row[0]: row[1] for row in rows}

    def tasks_accepted(self) -> int:
        """Accepted tasks of all jobs."""
        return int(self._driver.run("SELECT coalesce(sum(accepted_count), 0) FROM jobs").scalar_one())

    def _one(self, query: str, parameters: tuple[Any, ...]) -> JobRow | None:
        row = self._driver.run(query, parameters).one_or_none()
        return None if row is None else _job(row)

    def _many(self, query: str, parameters: tuple[Any, ...]) -> list[JobRow]:
        return [_job(row) for row in self._driver.run(query, parameters)]


def _values(job: JobRow) -> tuple[Any, ...]:
    return (
        job.job_id,
        job.buyer_id,
        job.idempotency_key,
        job.request_sha256,
        job.name,
        job.state.value,
        job.program_sha256,
        job.kind,
        job.work_uwu_per_task,
        job.unit_steps,
        job.steps_per_task,
        outputs_to_json(job.outputs),
        job.terms.mode.value,
        job.terms.price_micros_per_wu,
        job.budget_micros,
        job.level.value,
        job.comparator.kind.value,
        job.comparator.rtol,
        job.comparator.atol,
        job.bounds.failures_max,
        job.bounds.attempts_max,
        job.deadline_us,
        job.created_at_us,
        job.ended_at_us,
        job.end_reason,
        job.task_count,
        job.ready_count,
        job.urgent_count,
        job.accepted_count,
        job.failed_count,
        job.cancelled_count,
        job.attempt_count,
        job.rejected_count,
        job.spent_micros,
        job.decided_seq,
        job.last_lease_id,
        job.rechecking_count,
        job.replaced_count,
        job.comparator.ulps,
        rules_to_json(job.comparator.outputs),
        job.certificate_sha256,
        job.certificate_failures,
        job.terms.start_micros_per_wu,
        job.terms.tasks_max,
    )


def _offer(row: Any) -> OfferRow:
    terms = PriceTerms(
        mode=_MODES[row[3]],
        price_micros_per_wu=row[4],
        start_micros_per_wu=row[5],
        deadline_us=row[6],
    )
    return OfferRow(row[0], row[1], row[2], terms, row[7] * row[8], row[9], BuyerShare(row[10], row[11]))


def _job(row: Any) -> JobRow:
    return JobRow(
        job_id=row[0],
        buyer_id=row[1],
        idempotency_key=row[2],
        request_sha256=row[3],
        name=row[4],
        state=JobState(row[5]),
        program_sha256=row[6],
        kind=row[7],
        work_uwu_per_task=row[8],
        unit_steps=row[9],
        steps_per_task=row[10],
        outputs=outputs_from_json(row[11]),
        terms=PriceTerms(
            mode=PriceMode(row[12]),
            price_micros_per_wu=row[13],
            start_micros_per_wu=row[42],
            deadline_us=row[21],
            tasks_max=row[43],
        ),
        budget_micros=row[14],
        level=VerificationLevel(row[15]),
        comparator=Comparator(
            kind=ComparatorKind(row[16]),
            rtol=row[17],
            atol=row[18],
            ulps=row[38],
            outputs=rules_from_json(row[39]),
        ),
        bounds=RetryBounds(failures_max=row[19], attempts_max=row[20]),
        deadline_us=row[21],
        created_at_us=row[22],
        ended_at_us=row[23],
        end_reason=row[24],
        task_count=row[25],
        ready_count=row[26],
        urgent_count=row[27],
        accepted_count=row[28],
        failed_count=row[29],
        cancelled_count=row[30],
        attempt_count=row[31],
        rejected_count=row[32],
        spent_micros=row[33],
        decided_seq=row[34],
        last_lease_id=row[35],
        rechecking_count=row[36],
        replaced_count=row[37],
        certificate_sha256=row[40],
        certificate_failures=row[41],
    )


def outputs_to_json(outputs: Sequence[OutputSpec]) -> str:
    """Write what a program returns as JSON."""
    return json.dumps([[spec.name, spec.dtype, list(spec.shape)] for spec in outputs], separators=(",", ":"))


def outputs_from_json(text: str) -> tuple[OutputSpec, ...]:
    """Read what `outputs_to_json` wrote."""
    return tuple(
        OutputSpec(name=name, dtype=dtype, shape=tuple(shape)) for name, dtype, shape in json.loads(text)
    )


def rules_to_json(rules: Mapping[str, Rule]) -> str:
    """Write the rules of single outputs as JSON."""
    return json.dumps(
        {name: [rule.kind.value, rule.rtol, rule.atol, rule.ulps] for name, rule in sorted(rules.items())},
        separators=(",", ":"),
    )


def rules_from_json(text: str) -> dict[str, Rule]:
    """Read what `rules_to_json` wrote."""
    return {
        name: Rule(kind=ComparatorKind(kind), rtol=rtol, atol=atol, ulps=ulps)
        for name, (kind, rtol, atol, ulps) in json.loads(text).items()
    }
