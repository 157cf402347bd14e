"""A session without a network: decides tasks in an order that a test draws, and counts its calls."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from chargepool._comparators import exact
from chargepool._errors import JobClosed
from chargepool._job import Job
from chargepool._map import OnError, OnInterrupt, Results
from chargepool._program import Program
from chargepool._session import News, Session
from chargepool._values import JobStatus, ProgressCallback
from pool_protocol import tensors
from pool_protocol.digests import output_digest
from pool_protocol.program.export import export_map
from pool_protocol.program.manifest import ProgramCost, ProgramManifest
from pool_protocol.v1 import common_pb2, market_service_pb2

JOB_ID = "job_1"


def halve(x: Any) -> Any:
    return jnp.asarray(x) * 0.5


@cache
def program() -> Program:
    """`halve` of a float32 scalar, as if a pool had admitted it."""
    exported = export_map(halve, np.float32(0))
    cost = ProgramCost(
        operations={"multiply": 1},
        flops=1,
        bytes_moved=8,
        work_uwu=1,
        peak_bytes=8,
        temporary_bytes=0,
        cost_model=1,
    )
    manifest = ProgramManifest(draft=exported.draft, cost=cost)
    return Program(
        program_id=manifest.program_id,
        name="halve",
        manifest=manifest,
        comparator=exact(),
        constants={},
        artifact=exported.artifact,
    )


class ScriptedSession:
    """Stands for `Session` where `Results` and `Job` use it."""

    def __init__(
        self, *, seed: int = 0, failing: frozenset[int] = frozenset(), cancel_after: int | None = None
    ) -> None:
        self._random = random.Random(seed)
        self._failing = failing
        self._cancel_after = cancel_after
        self._waiting: dict[int, Mapping[str, NDArray[Any]]] = {}
        self._decided: list[market_service_pb2.TaskResult] = []
        self.task_count = 0
        self.batches: list[int] = []
        self.state = "open"
        self.calls: list[str] = []

    def add_tasks(self, job_id: str, first_index: int, inputs: Sequence[Mapping[str, NDArray[Any]]]) -> int:
        if self.state != "open":
            raise JobClosed
        assert first_index == self.task_count, "batches arrive without holes"
        self.batches.append(len(inputs))
        for arrays in inputs:
            self._waiting[self.task_count] = arrays
            self.task_count += 1
        return self.task_count

    def close_job(self, job_id: str) -> JobStatus:
        self.calls.append("close")
        self.state = "closing"
        return self.get_job(job_id)

    def cancel_job(self, job_id: str) -> JobStatus:
        self.calls.append("cancel")
        self.state = "cancelled"
        return self.get_job(job_id)

    def get_job(self, job_id: str) -> JobStatus:
        failed = sum(task.state == market_service_pb2.TASK_STATE_FAILED for task in self._decided)
        return JobStatus(
            job_id=job_id,
            name="halve",
            state=self.state,  # type: ignore[arg-type]
            program_sha256=program().program_id,
            task_count=self.task_count,
            accepted_count=len(self._decided) - failed,
            failed_count=failed,
            running_count=len(self._waiting),
            attempt_count=len(self._decided),
            rejected_count=0,
            escrow_micros=0,
            spent_micros=0,
            level="standard",
            steps=0,
            created_at_us=1,
            ended_at_us=0,
        )

    def watch(self, job_id: str, *, after_cursor: int = 0, include_results: bool = True) -> Iterator[News]:
        cursor = after_cursor
        while True:
            if self._cancel_after is not None and len(self._decided) >= self._cancel_after:
                self.state, self._waiting = "cancelled", {}
            for _ in range(min(len(self._waiting), self._random.randint(1, 3))):
                self._decide(self._random.choice(sorted(self._waiting)))
            if self.state == "closing" and not self._waiting:
                self.state = "done"
            news = tuple(self._decided[cursor:])
            cursor += len(news)
            assert news or self._waiting or self.state != "open", "the client waits for what it never sent"
            yield News(decided=news, cursor=cursor, status=self.get_job(job_id))
            if self.state in ("done", "cancelled") and cursor == len(self._decided):
                return

    def _decide(self, index: int) -> None:
        arrays = self._waiting.pop(index)
        if index in self._failing:
            failed = market_service_pb2.TASK_STATE_FAILED
            self._decided.append(
                market_service_pb2.TaskResult(index=index, state=failed, reason="PROGRAM_FAILED")
            )
            return
        outputs = {"value": arrays["value"] * np.float32(0.5)}
        encoded = tensors.encode(outputs)
        self._decided.append(
            market_service_pb2.TaskResult(
                index=index,
                state=market_service_pb2.TASK_STATE_ACCEPTED,
                outputs=common_pb2.TensorBundle(inline=encoded, size_bytes=len(encoded)),
                output_digest=output_digest(outputs),
            )
        )

    def arrays(self, bundle: common_pb2.TensorBundle) -> dict[str, NDArray[Any]]:
        return tensors.decode(bundle.inline)


def scripted_map(
    session: ScriptedSession,
    items: Iterator[Any],
    *,
    window: int = 8,
    batch_size: int = 4,
    ordered: bool = True,
    on_error: OnError = "return",
    on_interrupt: OnInterrupt = "leave",
    progress: ProgressCallback | None = None,
) -> Results:
    """A map over a scripted session."""
    as_session = cast("Session", session)
    job = Job(as_session, JOB_ID, program=program(), program_id=program().program_id, currency="EUR")
    return Results(
        as_session,
        job=job,
        feed=job.feed(items, batch_size=batch_size),
        window=window,
        tasks_total=None,
        ordered=ordered,
        on_error=on_error,
        on_interrupt=on_interrupt,
        progress=progress,
    )
