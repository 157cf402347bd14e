"""Takes leases in: verifies, journals, fetches what they need, and hands them to the agent.

Leases that cannot be believed are refused with their code as an event, and nothing of them runs. A lease
that is believed but whose program or inputs are not is answered with REFUSED results, so that the pool can
give its tasks to someone else.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from car_agent.journal.store import Journal, JournalledLease
from car_agent.journal.thread import JournalThread
from car_agent.runner.work import Outcome
from car_agent.session.care import Caretaker
from car_agent.session.leases import VerifiedLease, verify_lease
from car_agent.session.results import ResultDesk
from car_agent.session.supplies import Supplies
from car_agent.session.wire import SessionListener
from pool_protocol.clock import Clock
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.v1 import common_pb2, fleet_service_pb2

if TYPE_CHECKING:
    from pool_protocol.v1.fleet_service_pb2_grpc import FleetServiceAsyncStub

#: After a lease that cannot be believed, no work is asked for this long: the next would be the same.
_REFUSED_PAUSE_MS: Final = 5_000

_log = logging.getLogger(__name__)


class LeaseIntake:
    """The leases that have arrived and are not with the agent yet."""

    def __init__(
        self,
        *,
        journal: JournalThread,
        supplies: Supplies,
        desk: ResultDesk,
        clock: Clock,
        listener: SessionListener,
        reserve_price_micros_per_wu: int,
        on_refused: Callable[[int], None],
        on_free: Callable[[], None],
    ) -> None:
        """Hand leases to `listener`.

        After a refusal `on_refused` is called with a pause in milliseconds; `on_free` whenever the next lease
        may be asked for.
        """
        self._journal = journal
        self._supplies = supplies
        self._desk = desk
        self._clock = clock
        self._listener = listener
        self._reserve_price_micros_per_wu = reserve_price_micros_per_wu
        self._on_refused = on_refused
        self._on_free = on_free
        self._offers: asyncio.Queue[common_pb2.Envelope | JournalledLease] = asyncio.Queue()
        self._working = False

    @property
    def busy(self) -> bool:
        """Whether a lease is being taken in: nobody asks for another meanwhile."""
        return self._working or not self._offers.empty()

    def offer(self, envelope: common_pb2.Envelope) -> None:
        """Queue a lease from the pool."""
        self._offers.put_nowait(envelope)

    def resume(self, lease: JournalledLease) -> None:
        """Queue a lease from the journal."""
        self._offers.put_nowait(lease)

    async def run(self, stub: "FleetServiceAsyncStub", caretaker: Caretaker) -> None:
        """Take leases in, one after another, while a connection lasts."""
        while True:
            offered = await self._offers.get()
            self._working = True
            try:
                if isinstance(offered, JournalledLease):
                    await self._take_up(offered, stub, caretaker)
                else:
                    await self._take_in(offered, stub, caretaker)
            finally:
                self._working = False
                self._on_free()

    async def _take_in(
        self, envelope: common_pb2.Envelope, stub: "FleetServiceAsyncStub", caretaker: Caretaker
    ) -> None:
        try:
            lease = await self._believe(envelope, stub, caretaker)
            is_new = await self._keep_even_if_cancelled(lease)
        except PoolError as error:
            if error.retryable:
                raise  # the line broke while asking for keys; the pool sends the lease again
            self._refuse(error)
            return
        if not is_new:  # it was sent again before the pool had heard that we hold it
            return
        loss = self._listener.loses_at(lease.price_micros_per_wu)
        if loss:
            self._listener.happened("WORK_WOULD_LOSE", f"Lease {lease.lease_id} goes back: {loss}.")
            self._give_back(lease.lease_id, Outcome.ABANDONED, "PRICE_BELOW_RESERVE", loss)
            self._on_refused(_REFUSED_PAUSE_MS)
            return
        await self._supply(lease, frozenset(), stub, caretaker)

    async def _keep_even_if_cancelled(self, lease: VerifiedLease) -> bool:
        """Journal a lease and tell the agent; a line that breaks meanwhile must not leave it half taken."""
        keeping = asyncio.create_task(self._keep(lease))
        try:
            return await asyncio.shield(keeping)
        except asyncio.CancelledError:
            keeping.add_done_callback(partial(self._requeue_kept, lease))
            raise

    async def _keep(self, lease: VerifiedLease) -> bool:
        is_new = await self._journal.do(
            partial(
                Journal.take_lease,
                lease_id=lease.lease_id,
                envelope=lease.envelope_bytes,
                sequence=lease.sequence,
                attempts_total=len(lease.attempts),
                expires_at_us=lease.expires_at_us,
                now_us=self._clock.now_us(),
            )
        )
        if is_new:
            attempt_ids = [attempt.attempt_id for attempt in lease.attempts]
            self._desk.open(lease.lease_id, attempt_ids, attempts_total=len(attempt_ids))
            self._listener.lease_taken(lease.lease_id)
        return is_new

    def _requeue_kept(self, lease: VerifiedLease, keeping: "asyncio.Task[bool]") -> None:
        if not keeping.cancelled() and keeping.exception() is None and keeping.result():
            self._requeue(lease)

    def _requeue(self, lease: VerifiedLease) -> None:
        """Supply it over the next line."""
        self._offers.put_nowait(
            JournalledLease(
                lease_id=lease.lease_id,
                envelope=lease.envelope_bytes,
                attempts_total=len(lease.attempts),
                expires_at_us=lease.expires_at_us,
                reported=frozenset(),
            )
        )

    async def _believe(
        self, envelope: common_pb2.Envelope, stub: "FleetServiceAsyncStub", caretaker: Caretaker
    ) -> VerifiedLease:
        try:
            return self._verify(envelope, caretaker)
        except PoolError as error:
            if error.code not in {ErrorCode.KEY_UNKNOWN, ErrorCode.ROOT_EXPIRED}:
                raise
            # The pool may have new keys: a newer root, believed by the old one's rules, decides.
            await caretaker.update_root(stub)
            return self._verify(envelope, caretaker)

    def _verify(self, envelope: common_pb2.Envelope, caretaker: Caretaker) -> VerifiedLease:
        return verify_lease(
            envelope,
            root=caretaker.identity.root,
            vehicle_id=caretaker.identity.vehicle_id,
            reserve_price_micros_per_wu=self._reserve_price_micros_per_wu,
            now_us=self._clock.now_us(),
        )

    def _refuse(self, error: PoolError) -> None:
        _log.warning("lease refused", extra={"code": error.code.value, "cause": error.detail[:200]})
        self._listener.happened(
            "LEASE_REFUSED", f"A lease was not believed ({error.code.value}) and nothing of it ran."
        )
        self._on_refused(_REFUSED_PAUSE_MS)

    async def _take_up(
        self, lease: JournalledLease, stub: "FleetServiceAsyncStub", caretaker: Caretaker
    ) -> None:
        """Go on with a lease of an earlier run; it was journalled, so it is verified but not new."""
        if not self._desk.is_open(lease.lease_id):
            return
        try:
            verified = self._verify(common_pb2.Envelope.FromString(lease.envelope), caretaker)
        except (PoolError, DecodeError) as error:
            code = error.code if isinstance(error, PoolError) else ErrorCode.JOURNAL_CORRUPT
            self._give_back(lease.lease_id, Outcome.ABANDONED, code.value, str(error))
            return
        await self._supply(verified, lease.reported, stub, caretaker)

    async def _supply(
        self,
        lease: VerifiedLease,
        reported: frozenset[int],
        stub: "FleetServiceAsyncStub",
        caretaker: Caretaker,
    ) -> None:
        try:
            work = await self._supplies.fetch(lease, stub, root=caretaker.identity.root, without=reported)
        except PoolError as error:
            outcome = Outcome.ABANDONED if error.retryable else Outcome.REFUSED
            _log.warning("lease not supplied", extra={"code": error.code.value, "cause": error.detail[:200]})
            self._listener.happened(
                "LEASE_REFUSED", f"Lease {lease.lease_id} cannot be worked on: {error.code.value}."
            )
            self._give_back(lease.lease_id, outcome, error.code.value, error.detail)
            self._on_refused(_REFUSED_PAUSE_MS)
            return
        except asyncio.CancelledError:
            self._requeue(lease)  # the line broke while fetching
            raise
        if self._desk.is_open(lease.lease_id):
            self._listener.lease_supplied(work)

    def _give_back(self, lease_id: str, outcome: Outcome, reason: str, detail: str) -> None:
        self._desk.abandon([lease_id], outcome=outcome, reason=reason, detail=detail)
        self._listener.outcomes_added()


def attempt_ids_of(lease: JournalledLease) -> list[int]:
    """Return the attempts of a lease of our own journal; it was verified before it was written.

    Raises:
        PoolError: JOURNAL_CORRUPT when it cannot be read.
    """
    try:
        envelope = common_pb2.Envelope.FromString(lease.envelope)
        body = fleet_service_pb2.LeaseBody.FromString(envelope.body)
    except DecodeError as error:
        raise PoolError(ErrorCode.JOURNAL_CORRUPT, f"lease {lease.lease_id} cannot be read") from error
    return [spec.attempt_id for spec in body.attempts]
