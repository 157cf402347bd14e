"""Between the wire and the work's commands: leases, results, tensors. Checks form; decides nothing."""

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from pool_protocol import ids, limits
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import fleet_service_pb2 as fleet_pb2
from pool_server.app.work_commands import (
    AckStatus,
    AttemptAckValue,
    AttemptReport,
    LeaseGranted,
    LeaseWork,
    NoWorkNow,
    SubmitResults,
)
from pool_server.core.energy import EnergySource
from pool_server.core.jobs import NO_TENSORS, AttemptOutcome, TensorRef

_OUTCOMES: dict[int, AttemptOutcome] = {
    fleet_pb2.ATTEMPT_OUTCOME_COMPLETED: AttemptOutcome.COMPLETED,
    fleet_pb2.ATTEMPT_OUTCOME_PROGRAM_FAILED: AttemptOutcome.PROGRAM_FAILED,
    fleet_pb2.ATTEMPT_OUTCOME_ABANDONED: AttemptOutcome.ABANDONED,
    fleet_pb2.ATTEMPT_OUTCOME_WORKER_FAILED: AttemptOutcome.WORKER_FAILED,
    fleet_pb2.ATTEMPT_OUTCOME_REFUSED: AttemptOutcome.REFUSED,
}
_ACKS: dict[AckStatus, "fleet_pb2.AckStatus.ValueType"] = {
    AckStatus.RECORDED: fleet_pb2.ACK_STATUS_RECORDED,
    AckStatus.VERIFIED: fleet_pb2.ACK_STATUS_VERIFIED,
    AckStatus.DUPLICATE: fleet_pb2.ACK_STATUS_DUPLICATE,
    AckStatus.LATE: fleet_pb2.ACK_STATUS_LATE,
    AckStatus.REFUSED: fleet_pb2.ACK_STATUS_REFUSED,
}
_ENERGY_SOURCES: dict[int, EnergySource] = {
    common_pb2.ENERGY_SOURCE_RAPL: EnergySource.RAPL,
    common_pb2.ENERGY_SOURCE_NVML: EnergySource.NVML,
    common_pb2.ENERGY_SOURCE_RAPL_NVML: EnergySource.RAPL_NVML,
    common_pb2.ENERGY_SOURCE_DECLARED: EnergySource.DECLARED,
}
_WARM_PROGRAMS_MAX = 64
_HELD_LEASES_MAX = 64
_REASON_CHARACTERS_MAX = 60
_DETAIL_CHARACTERS_MAX = 500


def invalid(field: str, why: str) -> PoolError:
    """Return the refusal of a field."""
    return PoolError(ErrorCode.INVALID_ARGUMENT, f"{field}: {why}", context={"field": field})


def fit_to_show(text: str, *, characters_max: int) -> str:
    """Return a stranger's words as they may be shown on anyone's terminal: cut, without control characters.

    Lines stay lines; what steers a terminal, or turns the direction of writing, is replaced.
    """
    return "".join(
        character if character.isprintable() or character == "\n" else "\N{REPLACEMENT CHARACTER}"
        for character in text[:characters_max]
    )


def tensor_ref(bundle: common_pb2.TensorBundle, *, field: str) -> TensorRef:
    """Read a bundle: its size must be that of its bytes, and inline bytes within the limit.

    Raises:
        PoolError: INVALID_ARGUMENT, TENSORS_TOO_LARGE, BLOB_TOO_LARGE.
    """
    match bundle.WhichOneof("content"):
        case "inline":
            if len(bundle.inline) > limits.INLINE_TENSOR_BYTES_MAX:
                raise PoolError(
                    ErrorCode.TENSORS_TOO_LARGE,
                    f"{field}: {len(bundle.inline)} bytes inline",
                    context={"field": field, "limit": str(limits.INLINE_TENSOR_BYTES_MAX)},
                )
            if bundle.size_bytes not in {0, len(bundle.inline)}:
                raise invalid(field, f"size_bytes {bundle.size_bytes} of {len(bundle.inline)} bytes")
            return TensorRef(inline=bundle.inline, size_bytes=len(bundle.inline))
        case "blob_sha256":
            if not 1 <= bundle.size_bytes <= limits.BLOB_BYTES_MAX:
                raise PoolError(
                    ErrorCode.BLOB_TOO_LARGE,
                    f"{field}: a blob of {bundle.size_bytes} bytes",
                    context={"field": field, "limit": str(limits.BLOB_BYTES_MAX)},
                )
            return TensorRef(blob_sha256=ids.parse_blob_id(bundle.blob_sha256), size_bytes=bundle.size_bytes)
        case _:
            return NO_TENSORS


def tensor_bundle(reference: TensorRef) -> common_pb2.TensorBundle:
    """Write a bundle."""
    if reference.inline is not None:
        return common_pb2.TensorBundle(inline=reference.inline, size_bytes=reference.size_bytes)
    if reference.blob_sha256 is not None:
        return common_pb2.TensorBundle(blob_sha256=reference.blob_sha256, size_bytes=reference.size_bytes)
    return common_pb2.TensorBundle()


def lease_work(
    want: fleet_pb2.WorkRequest, held: Sequence[str], *, vehicle_id: str, network: str
) -> LeaseWork:
    """Read a wish for work.

    Raises:
        PoolError: INVALID_ARGUMENT.
    """
    if len(want.warm_program_sha256) > _WARM_PROGRAMS_MAX:
        raise invalid("warm_program_sha256", f"more than {_WARM_PROGRAMS_MAX}")
    if len(held) > _HELD_LEASES_MAX:
        raise invalid("held_lease_ids", f"more than {_HELD_LEASES_MAX}")
    if want.reserve_price_micros_per_wu < 0:
        raise invalid("reserve_price_micros_per_wu", "must not be negative")
    return LeaseWork(
        vehicle_id=vehicle_id,
        network=network,
        attempts_max=min(want.attempts_max, limits.LEASE_TASKS_MAX),
        available_ms=min(want.available_ms, limits.LEASE_LIFETIME_US_MAX // 1_000),
        warm_programs=tuple(ids.parse_program_id(text) for text in want.warm_program_sha256),
        reserve_price_micros_per_wu=want.reserve_price_micros_per_wu,
        held_lease_ids=tuple(ids.parse_lease_id(text) for text in held),
    )


def lease_body(lease: LeaseGranted) -> bytes:
    """Write the body of a lease, to be signed as it is."""
    return fleet_pb2.LeaseBody(
        lease_id=ids.lease_id_text(ids.LeaseId(lease.lease_id)),
        vehicle_id=lease.vehicle_id,
        program_sha256=lease.program_sha256,
        constants=tensor_bundle(lease.constants),
        price_micros_per_wu=lease.price_micros_per_wu,
        attempts=[
            fleet_pb2.AttemptSpec(
                attempt_id=attempt.attempt_id,
                inputs=tensor_bundle(attempt.inputs),
                steps=attempt.steps,
                unit_steps=attempt.unit_steps,
                work_uwu=attempt.work_uwu,
            )
            for attempt in lease.attempts
        ],
        expires_at_us=lease.expires_at_us,
    ).SerializeToString()


def lease_blobs(lease: LeaseGranted) -> list[str]:
    """Return the blobs that a lease names: its vehicle may read them."""
    references = [lease.constants, *(attempt.inputs for attempt in lease.attempts)]
    return [reference.blob_sha256 for reference in references if reference.blob_sha256 is not None]


def no_work(answer: NoWorkNow) -> fleet_pb2.NoWork:
    """Write why there is no lease."""
    return fleet_pb2.NoWork(
        reason=answer.reason.value, message=answer.message, retry_after_ms=answer.retry_after_ms
    )


def submit_results(body: bytes, *, vehicle_id: str) -> SubmitResults:
    """Read a bundle of results whose signature was verified before.

    Raises:
        PoolError: ENVELOPE_MALFORMED when it cannot be parsed; INVALID_ARGUMENT; TENSORS_TOO_LARGE;
            BLOB_TOO_LARGE.
    """
    try:
        bundle = fleet_pb2.ResultBundleBody.FromString(body)
    except DecodeError as error:
        raise PoolError(ErrorCode.ENVELOPE_MALFORMED, "the body is no bundle of results") from error
    if not 1 <= len(bundle.results) <= limits.RESULTS_PER_REQUEST_MAX:
        raise invalid("results", f"1 to {limits.RESULTS_PER_REQUEST_MAX}, not {len(bundle.results)}")
    return SubmitResults(
        vehicle_id=vehicle_id,
        lease_id=ids.parse_lease_id(bundle.lease_id),
        reports=tuple(_report(result) for result in bundle.results),
    )


def _report(result: fleet_pb2.AttemptResult) -> AttemptReport:
    outcome = _OUTCOMES.get(result.outcome)
    if outcome is None:
        raise invalid("outcome", f"{result.outcome} is not known")
    if not 1 <= result.attempt_id <= ids.ROW_ID_MAX:
        raise invalid("attempt_id", f"{result.attempt_id} is not an attempt's id")
    if len(result.output_digest) not in {0, 32} or len(result.unit_root) not in {0, 32}:
        raise invalid("output_digest", "a digest has 32 bytes")
    if not 0 <= result.run_time_us <= limits.DAY_US:
        raise invalid("run_time_us", "time is out of bounds")
    if result.unit_count > limits.UNITS_PER_TASK_MAX:
        raise invalid("unit_count", f"more than {limits.UNITS_PER_TASK_MAX}")
    return AttemptReport(
        attempt_id=result.attempt_id,
        outcome=outcome,
        output_digest=result.output_digest,
        outputs=tensor_ref(result.outputs, field="outputs"),
        unit_root=result.unit_root,
        unit_count=result.unit_count,
        run_time_us=result.run_time_us,
        energy_mj=result.energy_mj,
        reason=fit_to_show(result.reason, characters_max=_REASON_CHARACTERS_MAX),
        detail=fit_to_show(result.detail, characters_max=_DETAIL_CHARACTERS_MAX),
        energy_source=_ENERGY_SOURCES.get(result.energy_source),
        electricity_micros=result.electricity_micros if result.HasField("electricity_micros") else None,
    )


def result_blobs(command: SubmitResults) -> list[str]:
    """Return the blobs that results name: the vehicle must have brought them."""
    return [
        report.outputs.blob_sha256 for report in command.reports if report.outputs.blob_sha256 is not None
    ]


def acknowledgements(acks: Sequence[AttemptAckValue]) -> fleet_pb2.SubmitResultsResponse:
    """Write what became of a bundle's attempts."""
    return fleet_pb2.SubmitResultsResponse(
        acks=[
            fleet_pb2.AttemptAck(
                attempt_id=ack.attempt_id,
                status=_ACKS[ack.status],
                reason=ack.reason,
                energy_refused=ack.energy_refused,
            )
            for ack in acks
        ]
    )
