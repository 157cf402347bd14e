"""The conversation with the pool: one stream of results out, acknowledgements, leases and pushes in.

`Session.run` connects when there is a reason to, talks until there is none, and comes back after a jittered
pause when the line breaks. Nothing is lost with a line: bundles are in the journal until acknowledged, and a
lease that got lost on the way is sent again, since every request names the leases that are here. The session
decides nothing about computing; it tells the agent, and asks it what it wants.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from car_agent import __version__
from car_agent.journal.identity import Identity
from car_agent.journal.store import Journal, JournalledBundle, JournalledLease
from car_agent.journal.thread import JournalThread
from car_agent.session.care import Caretaker
from car_agent.session.channel import open_channel
from car_agent.session.intake import LeaseIntake
from car_agent.session.outbox import Outbox
from car_agent.session.questions import QuestionDesk
from car_agent.session.wire import SessionListener, WorkWish
from pool_protocol.clock import Clock
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.grpc_status import from_rpc_error, from_status
from pool_protocol.numeric import Probe
from pool_protocol.v1 import fleet_service_pb2
from pool_protocol.v1.fleet_service_pb2_grpc import FleetServiceStub
from pool_protocol.v1.log_service_pb2_grpc import LogServiceStub

if TYPE_CHECKING:
    from pool_protocol.v1.fleet_service_pb2_grpc import FleetServiceAsyncStub

_ExchangeCall = grpc.aio.StreamStreamCall[
    fleet_service_pb2.ExchangeRequest, fleet_service_pb2.ExchangeResponse
]
_BACKOFF_S_MIN: Final = 0.25
_BACKOFF_S_MAX: Final = 60.0
_REVOKED_PAUSE_S: Final = 60.0
#: However long the pool asks a car to stay away: it may be mistaken, and the car asks cheaply.
_POSTPONE_MS_MAX: Final = 600_000
#: A pool that does not answer a request for this long is asked again over a new line.
_ANSWER_DEADLINE_S: Final = 60.0
_LINGER_S: Final = 1.0
_NS_PER_S: Final = 1_000_000_000
_REVOKING: Final = frozenset({ErrorCode.VEHICLE_RETIRED})
_ACK_FINAL: Final = fleet_service_pb2.ACK_STATUS_REFUSED

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request without an answer yet."""

    bundle_id: int | None
    wanted: bool
    answered: bool
    """Whether it held answers to the pool's questions."""
    sent_ns: int


class Session:
    """Talks to one pool on behalf of one vehicle."""

    def __init__(
        self,
        *,
        caretaker: Caretaker,
        intake: LeaseIntake,
        outbox: Outbox,
        questions: QuestionDesk,
        journal: JournalThread,
        clock: Clock,
        chance: random.Random,
        listener: SessionListener,
    ) -> None:
        """Wire a session; `run` does the rest."""
        self._caretaker = caretaker
        self._intake = intake
        self._outbox = outbox
        self._questions = questions
        self._journal = journal
        self._clock = clock
        self._chance = chance
        self._listener = listener
        self._wake = asyncio.Event()
        self._asked: dict[int, _Asked] = {}
        self._next_request_id = 1
        self._ask_after_ns = 0
        self._draining = False
        self._heard = False
        self.no_work_reason = ""
        self.last_contact_us = 0

    @property
    def identity(self) -> Identity:
        """Who we are; changes when certificate or root are renewed."""
        return self._caretaker.identity

    def nudge(self) -> None:
        """Something changed: look whether there is a reason to talk."""
        self._wake.set()

    # --- connecting ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Talk to the pool for ever."""
        failures = 0
        while True:
            await self._until_needed()
            self._heard = False
            pause_s = 0.0
            try:
                pause_s = await self._converse()
                failures = 0
            except PoolError as error:
                failures = 1 if self._heard else failures + 1
                pause_s = self._after_failure(error, failures)
            if pause_s > 0:
                await asyncio.sleep(pause_s)

    async def _until_needed(self) -> None:
        while not self._is_needed():
            self._wake.clear()
            await self._wake.wait()

    def _is_needed(self) -> bool:
        owed = bool(self._outbox) or self._questions.has_answers
        return owed or self._listener.needs_stream()

    def _after_failure(self, error: PoolError, failures: int) -> float:
        """Note why the line broke and return how long to wait."""
        _log.warning(
            "pool unreachable",
            extra={"code": error.code.value, "cause": error.detail[:200], "failures": failures},
        )
        self._listener.disconnected(error.code.value)
        if error.code in _REVOKING:
            self._listener.revoked(error.code.value)
            return _REVOKED_PAUSE_S
        ceiling_s = min(_BACKOFF_S_MAX, _BACKOFF_S_MIN * 2 ** min(failures, 10))
        if error.retry_after_ms is not None:
            ceiling_s = max(ceiling_s, min(error.retry_after_ms, _POSTPONE_MS_MAX) / 1_000)
        # Full jitter above a floor: a thousand cars do not come back in one second.
        return self._chance.uniform(_BACKOFF_S_MIN, max(_BACKOFF_S_MIN, ceiling_s))

    async def _converse(self) -> float:
        """Hold one stream until there is nothing more to say; return how long to stay away.

        Raises:
            PoolError: when the line broke.
        """
        identity = self.identity
        async with open_channel(
            identity.fleet_address,
            ca_pem=identity.ca_pem,
            tls_key_pem=identity.tls_key_pem,
            certificate_pem=identity.certificate_pem,
        ) as channel:
            stub = FleetServiceStub(channel)
            # A plain call first: it proves the connection and its certificates with a proper error.
            await self._caretaker.update_root(stub)
            self._heard = True
            self._begin()
            self._listener.connected()
            call = stub.Exchange()
            tasks = [
                asyncio.create_task(self._write(call, stub), name="session write"),
                asyncio.create_task(self._read(call), name="session read"),
                asyncio.create_task(self._intake.run(stub, self._caretaker), name="session intake"),
                asyncio.create_task(self._caretaker.run(stub, LogServiceStub(channel)), name="session care"),
                asyncio.create_task(self._questions.run(stub, self._caretaker), name="session questions"),
            ]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from error
            finally:
                call.cancel()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                self._asked.clear()
        self._listener.disconnected("")
        if self._draining:
            self._draining = False
            return max(0.0, (self._ask_after_ns - self._clock.monotonic_ns()) / _NS_PER_S)
        return 0.0

    def _begin(self) -> None:
        self._asked.clear()
        self._outbox.reset()
        self._questions.reset()
        self._next_request_id = 1
        self._touch()

    def _touch(self) -> None:
        self.last_contact_us = self._clock.now_us()

    # --- out -----------------------------------------------------------------------------------

    async def _write(self, call: _ExchangeCall, stub: "FleetServiceAsyncStub") -> None:
        """Send what is due; end when there is no reason left to hold the stream."""
        while True:
            self._wake.clear()
            bundle = self._outbox.next_due(self._clock.monotonic_ns())
            if bundle is not None and not await self._uploaded(bundle, stub):
                continue
            wish = self._due_wish()
            if bundle is not None or wish is not None or self._questions.has_answers:
                await self._send(call, bundle, wish)
                continue
            if not self._asked and (self._draining or not self._is_needed()):
                await self._linger()
                if not self._asked and (self._draining or not self._is_needed()):
                    return
                continue
            self._require_answers()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s()):
                    await self._wake.wait()

    async def _linger(self) -> None:
        """Stay a moment before hanging up: a car that is plugged in again keeps its line."""
        if not self._draining:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LINGER_S):
                    await self._wake.wait()

    async def _send(
        self, call: _ExchangeCall, bundle: JournalledBundle | None, wish: WorkWish | None
    ) -> None:
        request = fleet_service_pb2.ExchangeRequest(
            request_id=self._next_request_id,
            held_lease_ids=await self._journal.do(Journal.held_lease_ids),
        )
        if bundle is not None:
            request.results.ParseFromString(bundle.envelope)
        if wish is not None:
            request.want.CopyFrom(_want_message(wish))
        answers = self._questions.take_answers()
        request.unit_answers.extend(answers)
        self._asked[self._next_request_id] = _Asked(
            bundle_id=None if bundle is None else bundle.bundle_id,
            wanted=wish is not None,
            answered=bool(answers),
            sent_ns=self._clock.monotonic_ns(),
        )
        self._next_request_id += 1
        try:
            await call.write(request)
        except (asyncio.InvalidStateError, grpc.aio.UsageError) as error:
            # The stream ended between two messages; its own end is told to the reader.
            raise PoolError(ErrorCode.UNAVAILABLE, "the stream has ended") from error

    async def _uploaded(self, bundle: JournalledBundle, stub: "FleetServiceAsyncStub") -> bool:
        """Upload a bundle's large outputs; return False when the pool will not take them."""
        try:
            await self._outbox.upload(bundle, stub)
        except PoolError as error:
            if error.code is ErrorCode.UNAVAILABLE:
                raise
            await self._refused(bundle.bundle_id, error)
            return False
        return True

    def _due_wish(self) -> WorkWish | None:
        if self._draining or self._intake.busy or any(asked.wanted for asked in self._asked.values()):
            return None
        if self._clock.monotonic_ns() < self._ask_after_ns:
            return None
        return self._listener.wish()

    def _wait_s(self) -> float:
        """Return how long nothing is due, unless something wakes us."""
        now_ns = self._clock.monotonic_ns()
        until_ask_s = (self._ask_after_ns - now_ns) / _NS_PER_S
        until_resend_s = self._outbox.next_due_in_s(now_ns)
        return max(0.02, min(s for s in (1.0, until_ask_s if until_ask_s > 0 else 1.0, until_resend_s)))

    def _require_answers(self) -> None:
        now_ns = self._clock.monotonic_ns()
        for asked in self._asked.values():
            if now_ns - asked.sent_ns > _ANSWER_DEADLINE_S * _NS_PER_S:
                raise PoolError(ErrorCode.DEADLINE_EXCEEDED, "the pool does not answer")

    # --- in ------------------------------------------------------------------------------------

    async def _read(self, call: _ExchangeCall) -> None:
        """Take answers and pushes until the pool ends the stream."""
        async for response in call:
            self._touch()
            await self._take(response)
            self._wake.set()
        raise PoolError(ErrorCode.UNAVAILABLE, "the pool ended the stream")

    async def _take(self, response: fleet_service_pb2.ExchangeResponse) -> None:
        asked = self._asked.pop(response.request_id, None)
        if response.HasField("error"):
            await self._take_error(asked, response.error.status)
        elif asked is not None and asked.bundle_id is not None:
            await self._take_acks(asked.bundle_id, response.submitted.acks)
        if response.HasField("lease"):
            self.no_work_reason = ""
            self._intake.offer(response.lease)
        elif response.HasField("no_work"):
            self._take_no_work(response.no_work)
        if response.HasField("cancel"):
            attempt_ids = frozenset(response.cancel.attempt_ids)
            self._listener.attempts_cancelled(attempt_ids, response.cancel.reason)
        if response.unit_queries:
            await self._questions.ask(response.unit_queries)
        if response.HasField("drain"):
            self._draining = True
            self._postpone(response.drain.retry_after_ms)

    async def _take_acks(self, bundle_id: int, acks: Sequence[fleet_service_pb2.AttemptAck]) -> None:
        await self._outbox.settle(bundle_id)
        self._caretaker.figures_may_have_changed()
        for ack in acks:
            if ack.status == _ACK_FINAL:
                self._listener.happened(
                    "RESULT_REFUSED",
                    f"The pool refused the result of attempt {ack.attempt_id}: {ack.reason}.",
                )

    async def _take_error(self, asked: _Asked | None, status: bytes) -> None:
        try:
            error = from_status(status_pb2.Status.FromString(status))
        except DecodeError as cause:
            raise PoolError(ErrorCode.UNAVAILABLE, "an error that cannot be read") from cause
        if error.code in _REVOKING:
            raise error
        if asked is not None and asked.answered and error.retryable:
            raise error  # the pool asks again over the next line
        if asked is not None and asked.bundle_id is not None:
            await self._refused(asked.bundle_id, error)
        if asked is None or asked.wanted:
            self._listener.happened(error.code.value, f"The pool gave no work: {error.public}")
            self._postpone(max(1_000, error.retry_after_ms or 0))

    async def _refused(self, bundle_id: int, error: PoolError) -> None:
        """Decide whether a bundle that was refused as a whole is sent again."""
        if await self._outbox.refused(bundle_id, error, now_ns=self._clock.monotonic_ns()):
            self._listener.happened(
                "RESULT_REFUSED", f"The pool refused results ({error.code.value}): {error.public}"
            )

    def _take_no_work(self, no_work: fleet_service_pb2.NoWork) -> None:
        self.no_work_reason = no_work.reason
        self._postpone(no_work.retry_after_ms)

    def _postpone(self, retry_after_ms: int) -> None:
        """Ask for work again after this delay, some cars earlier and some later."""
        jitter = self._chance.uniform(0.9, 1.2)
        delay_ns = int(min(max(50, retry_after_ms), _POSTPONE_MS_MAX) * jitter * 1_000_000)
        self._ask_after_ns = self._clock.monotonic_ns() + delay_ns

    def resume(self, lease: JournalledLease) -> None:
        """Take up a lease that the journal kept over a restart."""
        self._intake.resume(lease)
        self._wake.set()

    def refuse_work_for(self, delay_ms: int) -> None:
        """Do not ask for work for a while: what came last could not be believed."""
        self._postpone(delay_ms)


def _want_message(wish: WorkWish) -> fleet_service_pb2.WorkRequest:
    return fleet_service_pb2.WorkRequest(
        attempts_max=wish.attempts_max,
        available_ms=wish.available_ms,
        warm_program_sha256=wish.warm_programs,
        reserve_price_micros_per_wu=wish.reserve_price_micros_per_wu,
        agent=fleet_service_pb2.AgentInfo(
            agent_version=__version__,
            jaxlib_version=wish.jaxlib_version,
            platforms=wish.platforms,
            sandbox_missing=wish.sandbox_missing,
            numeric=_numeric_message(wish.numeric),
        ),
    )


def _numeric_message(probe: Probe | None) -> fleet_service_pb2.NumericProbe | None:
    if probe is None:
        return None
    return fleet_service_pb2.NumericProbe(
        probe_version=probe.probe_version,
        profile=probe.profile,
        families=[
            fleet_service_pb2.ProbeDigest(family=family, digest=digest)
            for family, digest in probe.families.items()
        ],
    )
