"""What a connection looks after besides work: root updates, renewal of the certificate, the figures."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import grpc.aio

from car_agent.journal.durable import write_durably
from car_agent.journal.identity import Identity, certificate_span_us, signing_request
from car_agent.journal.state_directory import StateDirectory
from car_agent.journal.store import Journal
from car_agent.journal.thread import JournalThread
from car_agent.session.log_keeper import LogKeeper
from car_agent.session.wire import PoolFigures
from pool_protocol.clock import Clock
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.grpc_status import from_rpc_error
from pool_protocol.roots import open_root_chain
from pool_protocol.v1 import fleet_service_pb2

if TYPE_CHECKING:
    from pool_protocol.v1.fleet_service_pb2_grpc import FleetServiceAsyncStub
    from pool_protocol.v1.log_service_pb2_grpc import LogServiceAsyncStub

_CALL_TIMEOUT_S: Final = 20.0
_FIGURES_EVERY_S: Final = 20.0
_FIGURES_AFTER_ACK_S: Final = 1.0
_ROOT_EVERY_S: Final = 3_600.0
FIGURES_META: Final = "figures"

_log = logging.getLogger(__name__)


class Caretaker:
    """Keeps identity and figures current over the connections of a session."""

    def __init__(
        self,
        *,
        directory: StateDirectory,
        identity: Identity,
        journal: JournalThread,
        clock: Clock,
        on_figures: Callable[[PoolFigures], None],
        on_event: Callable[[str, str], None],
        log: LogKeeper | None = None,
    ) -> None:
        """Look after `identity`, kept in `directory`, and after the pool's log when `log` is given."""
        self.identity = identity
        self._directory = directory
        self._journal = journal
        self._clock = clock
        self._on_figures = on_figures
        self._on_event = on_event
        self._log = log
        self._figures_due = asyncio.Event()

    def figures_may_have_changed(self) -> None:
        """Ask for the figures soon."""
        self._figures_due.set()

    async def update_root(self, stub: "FleetServiceAsyncStub") -> None:
        """Take over newer roots, each signed by the one before it. Doubles as the test of a connection.

        Raises:
            PoolError: the code of a failed call. A root that is not believed is an event, and the old one
                stays.
        """
        trusted = self.identity.root
        try:
            answer = await stub.GetRoot(
                fleet_service_pb2.GetRootRequest(after_version=trusted.document.version),
                timeout=_CALL_TIMEOUT_S,
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        chain = [signed.SerializeToString() for signed in answer.roots]
        if not chain:
            return
        try:
            root = open_root_chain(chain, trusted, now_us=self._clock.now_us())
        except PoolError as error:
            self._on_event(error.code.value, f"The pool offered a root that is not trusted: {error.public}")
            return
        if root.document.version > trusted.document.version:
            await asyncio.to_thread(write_durably, self._directory.root, root.root_bytes)
            self.identity = replace(self.identity, root=root)
            self._on_event("ROOT_UPDATED", f"The pool has new keys: version {root.document.version}.")

    async def renew_when_due(self, stub: "FleetServiceAsyncStub") -> bool:
        """Renew the certificate when two thirds of its life are over; return whether it was renewed.

        Raises:
            PoolError: the code of a failed call, CERTIFICATE_INVALID.
        """
        since_us, until_us = certificate_span_us(self.identity.certificate_pem)
        if self._clock.now_us() < since_us + (until_us - since_us) * 2 // 3:
            return False
        try:
            answer = await stub.RenewCertificate(
                fleet_service_pb2.RenewCertificateRequest(csr_pem=signing_request(self.identity.tls_key_pem)),
                timeout=_CALL_TIMEOUT_S,
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        _, new_until_us = certificate_span_us(answer.certificate_pem)
        if new_until_us <= until_us:
            return False
        await asyncio.to_thread(write_durably, self._directory.certificate, answer.certificate_pem)
        self.identity = replace(self.identity, certificate_pem=answer.certificate_pem)
        self._on_event("CERTIFICATE_RENEWED", "The vehicle's certificate was renewed.")
        return True

    async def run(self, stub: "FleetServiceAsyncStub", log_stub: "LogServiceAsyncStub") -> None:
        """Look after everything while a connection lasts; end when the certificate was renewed: reconnect."""
        root_due_ns = self._clock.monotonic_ns() + int(_ROOT_EVERY_S * 1e9)
        while True:
            try:
                if await self.renew_when_due(stub):
                    return
                if self._clock.monotonic_ns() >= root_due_ns:
                    root_due_ns = self._clock.monotonic_ns() + int(_ROOT_EVERY_S * 1e9)
                    await self.update_root(stub)
                figures = await self._fetch_figures(stub)
                await self._look_at_log(stub, log_stub, verified_attempts=figures.verified_attempts)
            except PoolError as error:
                _log.info("care postponed", extra={"code": error.code.value, "cause": error.detail})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FIGURES_EVERY_S):
                    await self._figures_due.wait()
                    # Acknowledgements come in groups: one question for all of a second.
                    await asyncio.sleep(_FIGURES_AFTER_ACK_S)
            self._figures_due.clear()

    async def _look_at_log(
        self, stub: "FleetServiceAsyncStub", log_stub: "LogServiceAsyncStub", *, verified_attempts: int
    ) -> None:
        """Check the pool's log when that is due; an unknown key may be a new one."""
        if self._log is None:
            return
        try:
            await self._log.look_when_due(log_stub, self.identity, verified_attempts=verified_attempts)
        except PoolError as error:
            if error.code is not ErrorCode.KEY_UNKNOWN:
                raise
            await self.update_root(stub)
            try:
                await self._log.look_when_due(log_stub, self.identity, verified_attempts=verified_attempts)
            except PoolError as again:
                if again.code is not ErrorCode.KEY_UNKNOWN:
                    raise
                await self._log.refused(again, self.identity)

    async def _fetch_figures(self, stub: "FleetServiceAsyncStub") -> PoolFigures:
        try:
            answer = await stub.GetVehicleEarnings(
                fleet_service_pb2.GetVehicleEarningsRequest(), timeout=_CALL_TIMEOUT_S
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        figures = PoolFigures(
            currency=answer.currency,
            held_micros=answer.held_micros,
            available_micros=answer.available_micros,
            paid_micros=answer.paid_micros,
            vehicle_net_micros=answer.vehicle_net_micros,
            verified_attempts=answer.verified_attempts,
            rejected_attempts=answer.rejected_attempts,
            quarantine_reason=answer.quarantine_reason,
            posted_price_micros_per_wu=answer.posted_price_micros_per_wu or None,
            fee_ppm=answer.fee_ppm,
        )
        self._on_figures(figures)
        await self._journal.do(partial(Journal.put_meta, key=FIGURES_META, value=asdict(figures)))
        return figures
