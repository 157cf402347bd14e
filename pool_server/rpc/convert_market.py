"""Between the wire and what buyers ask: terms, jobs, results, receipts. Checks form; decides nothing."""

from collections.abc import Collection, Mapping

from pool_protocol import ids
from pool_protocol.money import ceil_div
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import market_service_pb2 as pb
from pool_server.app.estimate import Estimate
from pool_server.app.outlook import Outlook
from pool_server.app.receipts import Proven
from pool_server.app.work_commands import JobViewValue, TaskResultValue
from pool_server.core.comparison import Comparator, ComparatorKind, Rule
from pool_server.core.forecast.completion import Completion
from pool_server.core.jobs import JobState, PriceMode, TaskState
from pool_server.core.verification import VerificationLevel
from pool_server.ports.shell import QuoteRecord
from pool_server.rpc.convert_work import invalid, tensor_bundle

_LEVELS: dict[int, VerificationLevel] = {
    common_pb2.VERIFICATION_LEVEL_SPOT: VerificationLevel.SPOT,
    common_pb2.VERIFICATION_LEVEL_STANDARD: VerificationLevel.STANDARD,
    common_pb2.VERIFICATION_LEVEL_CAREFUL: VerificationLevel.CAREFUL,
    common_pb2.VERIFICATION_LEVEL_STRICT: VerificationLevel.STRICT,
    common_pb2.VERIFICATION_LEVEL_FULL: VerificationLevel.FULL,
    common_pb2.VERIFICATION_LEVEL_NONE: VerificationLevel.NONE,
}
_LEVELS_WIRE: dict[VerificationLevel, "common_pb2.VerificationLevel.ValueType"] = {
    VerificationLevel.SPOT: common_pb2.VERIFICATION_LEVEL_SPOT,
    VerificationLevel.STANDARD: common_pb2.VERIFICATION_LEVEL_STANDARD,
    VerificationLevel.CAREFUL: common_pb2.VERIFICATION_LEVEL_CAREFUL,
    VerificationLevel.STRICT: common_pb2.VERIFICATION_LEVEL_STRICT,
    VerificationLevel.FULL: common_pb2.VERIFICATION_LEVEL_FULL,
    VerificationLevel.NONE: common_pb2.VERIFICATION_LEVEL_NONE,
}
_PRICE_MODES: dict[int, PriceMode] = {
    common_pb2.PRICE_MODE_SPOT: PriceMode.SPOT,
    common_pb2.PRICE_MODE_QUOTE: PriceMode.QUOTE,
    common_pb2.PRICE_MODE_DONATE: PriceMode.DONATE,
}
_JOB_STATES: dict[JobState, "pb.JobState.ValueType"] = {
    JobState.OPEN: pb.JOB_STATE_OPEN,
    JobState.CLOSING: pb.JOB_STATE_CLOSING,
    JobState.DONE: pb.JOB_STATE_DONE,
    JobState.CANCELLED: pb.JOB_STATE_CANCELLED,
}
_TASK_STATES: dict[TaskState, "pb.TaskState.ValueType"] = {
    TaskState.READY: pb.TASK_STATE_OPEN,
    TaskState.RUNNING: pb.TASK_STATE_OPEN,
    TaskState.ACCEPTED: pb.TASK_STATE_ACCEPTED,
    TaskState.FAILED: pb.TASK_STATE_FAILED,
    TaskState.CANCELLED: pb.TASK_STATE_CANCELLED,
}


def level(value: int) -> VerificationLevel:
    """Read a level.

    Raises:
        PoolError: INVALID_ARGUMENT when it is not set or not known.
    """
    known = _LEVELS.get(value)
    if known is None:
        raise invalid("level", f"{value} is not a level of verification")
    return known


def price_mode(value: int) -> PriceMode:
    """Read a price mode.

    Raises:
        PoolError: INVALID_ARGUMENT when it is not set or not known.
    """
    known = _PRICE_MODES.get(value)
    if known is None:
        raise invalid("price_mode", f"{value} is not a price mode")
    return known


def comparator(message: common_pb2.Comparator, *, outputs: Collection[str]) -> Comparator:
    """Read a comparator; one that is not set is exact.

    Args:
        message: What the buyer declared.
        outputs: Names of the program's outputs.

    Raises:
        PoolError: INVALID_ARGUMENT, also for a rule of an output that the program does not have.
    """
    unknown = sorted({item.name for item in message.outputs} - set(outputs))
    if unknown:
        raise invalid(
            "comparator.outputs", f"the program has no {unknown[:5]}, its outputs are {sorted(outputs)[:20]}"
        )
    if len({item.name for item in message.outputs}) != len(message.outputs):
        raise invalid("comparator.outputs", "an output has two rules")
    rule = _rule(message)
    return Comparator(
        kind=rule.kind,
        rtol=rule.rtol,
        atol=rule.atol,
        ulps=rule.ulps,
        outputs={item.name: _rule(item) for item in message.outputs},
    )


def _rule(message: common_pb2.Comparator | common_pb2.OutputComparator) -> Rule:
    match message.kind:
        case common_pb2.COMPARATOR_KIND_UNSPECIFIED | common_pb2.COMPARATOR_KIND_EXACT:
            return Rule()
        case common_pb2.COMPARATOR_KIND_CLOSE:
            return Rule(kind=ComparatorKind.CLOSE, rtol=message.rtol, atol=message.atol)
        case common_pb2.COMPARATOR_KIND_ULP:
            return Rule(kind=ComparatorKind.ULP, ulps=message.ulps)
        case common_pb2.COMPARATOR_KIND_SET:
            return Rule(kind=ComparatorKind.SET)
        case _:
            raise invalid("comparator", f"{message.kind} is not a kind of comparator")


def quote_response(
    quote: QuoteRecord,
    *,
    currency: str,
    vehicles_now: int,
    owners_now: int,
    available_micros: int,
    outlook: Outlook,
    estimate: Estimate,
) -> pb.GetQuoteResponse:
    """Write a quote."""
    return pb.GetQuoteResponse(
        quote_id=quote.quote_id,
        price_micros_per_wu=quote.price_micros_per_wu,
        work_uwu_per_task=quote.work_uwu_per_task,
        cost_micros_per_task=quote.cost_micros_per_task,
        attempts_per_task=quote.attempts_per_task,
        total_micros=quote.total_micros,
        expires_at_us=quote.expires_at_us,
        currency=currency,
        vehicles_now=vehicles_now,
        owners_now=owners_now,
        available_micros=available_micros,
        audit_overhead_now=outlook.audit_overhead_now,
        audit_overhead_newcomer=outlook.audit_overhead_newcomer,
        epsilon=outlook.epsilon,
        promise=outlook.promise,
        estimate=_estimate(estimate),
        levels=[
            pb.LevelOffer(
                level=_LEVELS_WIRE[offer.level],
                attempts_per_task=offer.attempts_per_task,
                cost_micros_per_task=offer.cost_micros_per_task,
                epsilon=offer.epsilon,
            )
            for offer in estimate.levels
        ],
    )


def _estimate(estimate: Estimate) -> pb.QuoteEstimate:
    times = estimate.completion or Completion(0, 0, 0)
    return pb.QuoteEstimate(
        price_p10_micros_per_wu=estimate.price.p10_micros_per_wu,
        price_p50_micros_per_wu=estimate.price.p50_micros_per_wu,
        price_p90_micros_per_wu=estimate.price.p90_micros_per_wu,
        price_epochs=estimate.price.epochs,
        total_p10_micros=estimate.total_p10_micros,
        total_p50_micros=estimate.total_p50_micros,
        total_p90_micros=estimate.total_p90_micros,
        time_p10_ms=ceil_div(times.p10_us, 1_000),
        time_p50_ms=ceil_div(times.p50_us, 1_000),
        time_p90_ms=ceil_div(times.p90_us, 1_000),
        time_basis=estimate.completion_basis,
        energy_mwh=estimate.energy.energy_mwh,
        co2_mg=estimate.energy.co2_mg,
        energy_basis=estimate.energy_basis,
    )


def job_view(job: JobViewValue) -> pb.JobView:
    """Write a job."""
    return pb.JobView(
        job_id=ids.job_id_text(ids.JobId(job.job_id)),
        name=job.name,
        state=_JOB_STATES[job.state],
        program_sha256=job.program_sha256,
        task_count=job.task_count,
        accepted_count=job.accepted_count,
        failed_count=job.failed_count,
        running_count=job.running_count,
        escrow_micros=job.escrow_micros,
        spent_micros=job.spent_micros,
        created_at_us=job.created_at_us,
        ended_at_us=job.ended_at_us,
        level=_LEVELS_WIRE[job.level],
        attempt_count=job.attempt_count,
        rejected_count=job.rejected_count,
        steps_per_task=job.steps_per_task,
        buyer_id=job.buyer_id,
        waiting_reason=job.waiting_reason.value if job.waiting_reason is not None else "",
        end_reason=job.end_reason,
        waiting_count=job.waiting_count,
        waiting_detail=job.waiting_detail,
        bid_micros_per_wu=job.bid_micros_per_wu,
        certificate_sha256=job.certificate_sha256,
        rechecking_count=job.rechecking_count,
        replaced_count=job.replaced_count,
    )


def proven_receipt(proven: Proven) -> common_pb2.ProvenReceipt:
    """Write a receipt with its proof, every signed byte as it was made."""
    return common_pb2.ProvenReceipt(
        receipt=proven.receipt,
        leaf_index=proven.leaf_index,
        inclusion_path=proven.inclusion_path,
        batch=common_pb2.Envelope.FromString(proven.signed_batch),
    )


def task_result(
    result: TaskResultValue, receipts: Mapping[int, Proven], *, with_outputs: bool
) -> pb.TaskResult:
    """Write a task's result; without outputs only its outcome, cost and counts."""
    message = pb.TaskResult(
        index=result.index,
        state=_TASK_STATES[result.state],
        output_digest=result.output_digest,
        cost_micros=result.cost_micros,
        reason=result.reason,
        detail=result.detail,
        attempt_count=result.attempt_count,
        final=result.final,
        replaced_count=result.replaced_count,
        evidence=result.evidence,
    )
    if with_outputs:
        if result.outputs is not None:
            message.outputs.CopyFrom(tensor_bundle(result.outputs))
        message.receipts.extend(
            proven_receipt(receipts[attempt_id])
            for attempt_id in result.paid_attempt_ids
            if attempt_id in receipts
        )
    return message
