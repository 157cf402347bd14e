"""Judges what a worker says an attempt returned, before it is signed in the vehicle's name.

Names, types and shapes must be those of the manifest, the bytes must be safetensors, and the digests of the
units as many as there were units. Values are not judged here: that is what the pool's verification is for.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from car_agent.runner.frames import Frame
from car_agent.runner.work import AttemptOutcome, AttemptWork, Outcome
from pool_protocol import digests, limits, tensors
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.program.manifest import ProgramManifest, check_tensors

#: Larger outputs are decoded and hashed on a thread, so that a stop never waits for a hash.
_ON_LOOP_BYTES_MAX: Final = 256 * limits.KIB


async def judge_outputs(frame: Frame, *, work: AttemptWork, manifest: ProgramManifest) -> AttemptOutcome:
    """Return the outcome of an attempt that the worker says is done.

    Raises:
        PoolError: WORKER_LOST when what the worker sent is not what the program returns.
    """
    if len(frame.buffer) <= _ON_LOOP_BYTES_MAX:
        return _judge(frame, work, manifest)
    return await asyncio.to_thread(_judge, frame, work, manifest)


def _judge(frame: Frame, work: AttemptWork, manifest: ProgramManifest) -> AttemptOutcome:
    encoded = frame.buffer
    try:
        arrays: dict[str, Any] = check_tensors(tensors.decode(encoded), manifest.draft.output_types)
    except PoolError as error:
        raise PoolError(ErrorCode.WORKER_LOST, f"the worker's outputs: {error.detail}") from error
    unit_digests = _unit_digests(frame, expected=unit_count(work))
    return AttemptOutcome(
        lease_id=work.lease_id,
        attempt_id=work.attempt_id,
        outcome=Outcome.COMPLETED,
        outputs=encoded,
        output_digest=digests.output_digest(arrays),
        unit_root=digests.merkle_root(unit_digests) if unit_digests else b"",
        unit_count=len(unit_digests),
        unit_digests=tuple(unit_digests),
        run_time_us=frame.number("run_time_us"),
        work_uwu=work.work_uwu,
    )


def unit_count(work: AttemptWork) -> int:
    """Return how many units an attempt has: the last one may be shorter; 0 for map programs."""
    return -(-work.steps // work.unit_steps) if work.unit_steps else 0


def walked_units(frame: Frame, *, work: AttemptWork, before: int) -> list[bytes]:
    """Return the digests of the units that an attempt has made since it told of `before` units.

    Raises:
        PoolError: WORKER_LOST when they are not as many as it says, or more than it has.
    """
    units_done = frame.number("units_done")
    if not before <= units_done <= unit_count(work):
        raise PoolError(ErrorCode.WORKER_LOST, f"{units_done} units done, {before} of them before")
    return _unit_digests(frame, expected=units_done - before)


def stopped_outcome(work: AttemptWork, walked: Sequence[bytes], *, run_time_us: int) -> AttemptOutcome:
    """Return the outcome of an attempt that was stopped after these units; it claims none without any.

    All units without a result are no part of the task: then the last one is not claimed.
    """
    unit_digests = tuple(walked[: max(0, unit_count(work) - 1)])
    return AttemptOutcome(
        lease_id=work.lease_id,
        attempt_id=work.attempt_id,
        outcome=Outcome.ABANDONED,
        unit_count=len(unit_digests),
        unit_digests=unit_digests,
        run_time_us=run_time_us,
    )


def _unit_digests(frame: Frame, *, expected: int) -> list[bytes]:
    texts = frame.texts("unit_digests_hex")
    try:
        unit_digests = [bytes.fromhex(text) for text in texts]
    except ValueError as error:
        raise PoolError(ErrorCode.WORKER_LOST, "a unit's digest is not hexadecimal") from error
    if len(unit_digests) != expected or any(len(item) != digests.DIGEST_BYTES for item in unit_digests):
        raise PoolError(
            ErrorCode.WORKER_LOST, f"{len(unit_digests)} unit digests, expected {expected} of 32 bytes"
        )
    return unit_digests


def probe_families(frame: Frame) -> dict[str, bytes]:
    """Return the digests that a worker's probe found, by family; whether they are all is judged later.

    Raises:
        PoolError: WORKER_LOST when one is not hexadecimal.
    """
    entries = [entry.partition(":") for entry in frame.texts("families")]
    try:
        return {name: bytes.fromhex(digest) for name, _, digest in entries}
    except ValueError as error:
        raise PoolError(ErrorCode.WORKER_LOST, "a probe's digest is not hexadecimal") from error
