"""Collects outcomes by lease, signs them in bundles, and keeps each bundle until the pool has it.

One signature per bundle. A bundle is in the journal before anyone tries to send it, and its bytes are sent
again, unchanged, until they are acknowledged. An attempt that was stopped after whole units commits to them,
and they are kept like those of finished work. An attempt that will not be finished here is reported as
abandoned at once, so that another vehicle gets it.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from car_agent.core.energy import EnergySource
from car_agent.journal.energy_days import used
from car_agent.journal.store import BundleFacts, Journal, JournalledBundle
from car_agent.journal.thread import JournalThread
from car_agent.runner.work import AttemptOutcome, Outcome
from pool_protocol import digests, limits
from pool_protocol.clock import Clock
from pool_protocol.envelope import EnvelopeHeader, PayloadType, seal_envelope
from pool_protocol.keys import SigningKey
from pool_protocol.system import IdSource
from pool_protocol.v1 import common_pb2, fleet_service_pb2

#: A bundle is one message: half of what a message may hold, so that header and lease fit beside it.
_BUNDLE_BYTES_MAX: Final = limits.MESSAGE_BYTES_MAX // 2
_DETAIL_CHARACTERS_MAX: Final = 500
_OUTCOMES: Final = {
    Outcome.COMPLETED: fleet_service_pb2.ATTEMPT_OUTCOME_COMPLETED,
    Outcome.PROGRAM_FAILED: fleet_service_pb2.ATTEMPT_OUTCOME_PROGRAM_FAILED,
    Outcome.WORKER_FAILED: fleet_service_pb2.ATTEMPT_OUTCOME_WORKER_FAILED,
    Outcome.ABANDONED: fleet_service_pb2.ATTEMPT_OUTCOME_ABANDONED,
    Outcome.REFUSED: fleet_service_pb2.ATTEMPT_OUTCOME_REFUSED,
}

_ENERGY_SOURCES: Final = {
    EnergySource.RAPL: common_pb2.ENERGY_SOURCE_RAPL,
    EnergySource.NVML: common_pb2.ENERGY_SOURCE_NVML,
    EnergySource.RAPL_NVML: common_pb2.ENERGY_SOURCE_RAPL_NVML,
    EnergySource.DECLARED: common_pb2.ENERGY_SOURCE_DECLARED,
}


@dataclass(slots=True)
class _HeldLease:
    """A lease that has attempts without a sealed result."""

    attempts_total: int
    remaining: set[int]
    """Attempts without an outcome."""
    pending: list[AttemptOutcome] = field(default_factory=list)
    """Outcomes that are not sealed yet."""


class ResultDesk:
    """All leases that are open on this vehicle."""

    def __init__(
        self,
        *,
        journal: JournalThread,
        clock: Clock,
        source: IdSource,
        vehicle_id: str,
        pool_id: str,
        key: SigningKey,
        on_lease_done: Callable[[str], None],
        on_bundle: Callable[[JournalledBundle], None],
    ) -> None:
        """Seal as `vehicle_id` for `pool_id`; tell when a lease is done and when a bundle is on disk."""
        self._journal = journal
        self._clock = clock
        self._source = source
        self._vehicle_id = vehicle_id
        self._pool_id = pool_id
        self._key = key
        self._on_lease_done = on_lease_done
        self._on_bundle = on_bundle
        self._leases: dict[str, _HeldLease] = {}
        self._flushing = asyncio.Lock()

    def open(self, lease_id: str, attempt_ids: Iterable[int], *, attempts_total: int) -> None:
        """Begin a lease; `attempt_ids` are those that have no result yet."""
        self._leases[lease_id] = _HeldLease(attempts_total=attempts_total, remaining=set(attempt_ids))

    def is_open(self, lease_id: str) -> bool:
        """Whether a lease has attempts without an outcome."""
        lease = self._leases.get(lease_id)
        return lease is not None and bool(lease.remaining)

    @property
    def open_leases(self) -> int:
        """Leases with attempts that have no outcome."""
        return sum(1 for lease in self._leases.values() if lease.remaining)

    @property
    def remaining(self) -> int:
        """Attempts without an outcome."""
        return sum(len(lease.remaining) for lease in self._leases.values())

    def figures(self) -> tuple[int, int]:
        """Return how many attempts the oldest open lease has, and how many of them have an outcome."""
        for lease in self._leases.values():
            return lease.attempts_total, lease.attempts_total - len(lease.remaining)
        return 0, 0

    @property
    def has_pending(self) -> bool:
        """Whether outcomes wait to be sealed."""
        return any(lease.pending for lease in self._leases.values())

    def take(self, outcome: AttemptOutcome) -> bool:
        """Take note of an outcome; return False when nobody waits for it any more."""
        lease = self._leases.get(outcome.lease_id)
        if lease is None or outcome.attempt_id not in lease.remaining:
            return False
        lease.remaining.discard(outcome.attempt_id)
        lease.pending.append(outcome)
        return True

    def abandon(
        self,
        lease_ids: Iterable[str],
        *,
        outcome: Outcome = Outcome.ABANDONED,
        reason: str,
        detail: str = "",
        stopped: AttemptOutcome | None = None,
    ) -> int:
        """Give every attempt of these leases that has no outcome this one; return how many.

        `stopped` is one of them that has made whole units: it commits to them.
        """
        count = int(stopped is not None and self.take(replace(stopped, reason=reason)))
        for lease_id in lease_ids:
            lease = self._leases.get(lease_id)
            for attempt_id in sorted(lease.remaining) if lease is not None else ():
                self.take(
                    AttemptOutcome(
                        lease_id=lease_id,
                        attempt_id=attempt_id,
                        outcome=outcome,
                        reason=reason,
                        detail=detail,
                    )
                )
                count += 1
        return count

    def cancel(self, attempt_ids: frozenset[int]) -> None:
        """Forget attempts that the pool no longer wants: no result, no message."""
        for lease in self._leases.values():
            lease.remaining -= attempt_ids

    async def flush(self) -> None:
        """Seal and journal all that is pending; leases that have nothing left are done."""
        async with self._flushing:
            await self._flush()

    async def _flush(self) -> None:
        for lease_id, lease in list(self._leases.items()):
            outcomes, lease.pending = lease.pending, []
            parts = _split(outcomes)
            ended = False
            for number, part in enumerate(parts, start=1):
                ended = await self._seal(lease_id, lease, part, is_last=number == len(parts))
            if not lease.remaining and not lease.pending and self._leases.get(lease_id) is lease:
                del self._leases[lease_id]
                if not ended:  # what was left was cancelled: no bundle has finished it
                    await self._journal.do(partial(Journal.drop_lease, lease_id=lease_id))
                self._on_lease_done(lease_id)

    async def _seal(
        self, lease_id: str, lease: _HeldLease, outcomes: Sequence[AttemptOutcome], *, is_last: bool
    ) -> bool:
        """Seal and journal one bundle; return whether it ended its lease there."""
        now_us = self._clock.now_us()
        uploads: dict[str, bytes] = {}
        body = fleet_service_pb2.ResultBundleBody(
            lease_id=lease_id, results=[_message(outcome, uploads) for outcome in outcomes]
        ).SerializeToString()
        completed = sum(1 for outcome in outcomes if outcome.outcome is Outcome.COMPLETED)
        facts = BundleFacts(
            lease_id=lease_id,
            attempt_ids=[outcome.attempt_id for outcome in outcomes],
            lease_done=is_last and not lease.remaining and not lease.pending,
            completed=completed,
            abandoned=sum(1 for outcome in outcomes if outcome.outcome is Outcome.ABANDONED),
            uploads=uploads,
            commitments={
                outcome.attempt_id: b"".join(outcome.unit_digests)
                for outcome in outcomes
                if outcome.unit_digests
            },
            energy=used(outcome.energy for outcome in outcomes if outcome.energy is not None),
        )
        run_time_us = sum(outcome.run_time_us for outcome in outcomes)
        nonce = self._source.nonce()

        def seal(sequence: int) -> bytes:
            header = EnvelopeHeader(
                issuer=self._vehicle_id,
                audience=self._pool_id,
                nonce=nonce,
                sequence=sequence,
                issued_at_us=now_us,
                expires_at_us=now_us + limits.ENVELOPE_LIFETIME_US_MAX,
            )
            return seal_envelope(
                body, payload_type=PayloadType.RESULTS, header=header, key=self._key
            ).SerializeToString()

        bundle = await self._journal.do(
            lambda journal: journal.add_bundle(facts, seal, run_time_us=run_time_us, now_us=now_us)
        )
        self._on_bundle(bundle)
        return facts.lease_done


def _split(outcomes: Sequence[AttemptOutcome]) -> list[list[AttemptOutcome]]:
    """Split outcomes into bundles that fit a message."""
    parts: list[list[AttemptOutcome]] = []
    size = 0
    for outcome in outcomes:
        inline = len(outcome.outputs) if len(outcome.outputs) <= limits.INLINE_TENSOR_BYTES_MAX else 0
        size += inline + 1_024
        full = not parts or len(parts[-1]) >= limits.RESULTS_PER_REQUEST_MAX or size > _BUNDLE_BYTES_MAX
        if full:
            parts.append([])
            size = inline + 1_024
        parts[-1].append(outcome)
    return parts


def _message(outcome: AttemptOutcome, uploads: dict[str, bytes]) -> fleet_service_pb2.AttemptResult:
    unit_root = outcome.unit_root
    if outcome.unit_digests and not unit_root:  # stopped: not worked out on the way to the kill
        unit_root = digests.merkle_root(outcome.unit_digests)
    result = fleet_service_pb2.AttemptResult(
        attempt_id=outcome.attempt_id,
        outcome=_OUTCOMES[outcome.outcome],
        output_digest=outcome.output_digest,
        unit_root=unit_root,
        unit_count=outcome.unit_count,
        run_time_us=outcome.run_time_us,
        reason=outcome.reason,
        detail=outcome.detail[:_DETAIL_CHARACTERS_MAX],
    )
    if outcome.energy is not None:
        result.energy_mj = outcome.energy.energy_mj
        result.energy_source = _ENERGY_SOURCES[outcome.energy.source]
        if outcome.energy.electricity_micros is not None:
            result.electricity_micros = outcome.energy.electricity_micros
    if outcome.outcome is Outcome.COMPLETED:
        result.outputs.CopyFrom(_bundle(outcome.outputs, uploads))
    return result


def _bundle(outputs: bytes, uploads: dict[str, bytes]) -> common_pb2.TensorBundle:
    if len(outputs) <= limits.INLINE_TENSOR_BYTES_MAX:
        return common_pb2.TensorBundle(inline=outputs, size_bytes=len(outputs))
    blob_sha256 = digests.sha256_hex(outputs)
    uploads[blob_sha256] = outputs
    return common_pb2.TensorBundle(blob_sha256=blob_sha256, size_bytes=len(outputs))
