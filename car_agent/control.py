"""The owner's local service, on a unix socket in the state directory. Works without any network.

One method each: convert, ask the switchboard, convert. The socket is open to its owner and group only;
whoever can open it is the owner.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

import grpc
import grpc.aio

from car_agent.core.policy import VerdictKind
from car_agent.core.signals import VehicleSignals
from car_agent.core.status import AgentSnapshot, EnergyFigures
from pool_protocol.errors import PoolError
from pool_protocol.grpc_status import to_grpc_status
from pool_protocol.v1 import agent_control_service_pb2 as pb
from pool_protocol.v1 import agent_control_service_pb2_grpc as pb_grpc

_SOCKET_MODE: Final = 0o660
_WATCH_PAUSE_S: Final = 0.1
#: A watcher hears from us at least this often, since ages and remaining times change by themselves.
_WATCH_SILENCE_S: Final = 1.0
_STOP_GRACE_S: Final = 0.2
_VERDICTS: Final = {
    VerdictKind.RUN: pb.VERDICT_KIND_RUN,
    VerdictKind.WAIT: pb.VERDICT_KIND_WAIT,
    VerdictKind.STOP: pb.VERDICT_KIND_STOP,
}

_log = logging.getLogger(__name__)


class OwnerControl(Protocol):
    """What the service may ask of the agent."""

    def snapshot(self) -> AgentSnapshot:
        """Return how everything stands."""
        ...

    async def changed(self, version: int) -> int:
        """Wait for a change after `version`; return the new version."""
        ...

    async def opt_in(self) -> None:
        """Opt in; on disk when it returns."""
        ...

    async def opt_out(self) -> float:
        """Opt out; return the milliseconds until no worker was alive."""
        ...

    async def pause(self, duration_s: int) -> float:
        """Pause; return as `opt_out`."""
        ...

    async def resume(self) -> None:
        """End a pause."""
        ...

    def policy_toml(self) -> str:
        """Return the owner's limits."""
        ...

    async def set_policy(self, text: str) -> str:
        """Set the owner's limits; return them as kept."""
        ...


class ControlServicer(pb_grpc.AgentControlServiceServicer):
    """Answers the owner."""

    def __init__(self, control: OwnerControl) -> None:
        """Answer from `control`."""
        self._control = control

    async def GetStatus(
        self,
        request: pb.GetStatusRequest,
        context: grpc.aio.ServicerContext[pb.GetStatusRequest, pb.GetStatusResponse],
    ) -> pb.GetStatusResponse:
        return pb.GetStatusResponse(status=self._status())

    async def WatchStatus(
        self,
        request: pb.WatchStatusRequest,
        context: grpc.aio.ServicerContext[pb.WatchStatusRequest, pb.WatchStatusResponse],
    ) -> AsyncIterator[pb.WatchStatusResponse]:
        version = -1
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_WATCH_SILENCE_S):
                    version = await self._control.changed(version)
            yield pb.WatchStatusResponse(status=self._status())
            await asyncio.sleep(_WATCH_PAUSE_S)

    async def SetOptIn(
        self,
        request: pb.SetOptInRequest,
        context: grpc.aio.ServicerContext[pb.SetOptInRequest, pb.SetOptInResponse],
    ) -> pb.SetOptInResponse:
        stop_ms = 0.0
        try:
            if request.opted_in:
                await self._control.opt_in()
            else:
                stop_ms = await self._control.opt_out()
        except PoolError as error:
            await _refuse(context, error)
        return pb.SetOptInResponse(status=self._status(), stop_ms=stop_ms)

    async def Pause(
        self,
        request: pb.PauseRequest,
        context: grpc.aio.ServicerContext[pb.PauseRequest, pb.PauseResponse],
    ) -> pb.PauseResponse:
        try:
            stop_ms = await self._control.pause(request.duration_s)
        except PoolError as error:
            await _refuse(context, error)
        return pb.PauseResponse(status=self._status(), stop_ms=stop_ms)

    async def Resume(
        self,
        request: pb.ResumeRequest,
        context: grpc.aio.ServicerContext[pb.ResumeRequest, pb.ResumeResponse],
    ) -> pb.ResumeResponse:
        try:
            await self._control.resume()
        except PoolError as error:
            await _refuse(context, error)
        return pb.ResumeResponse(status=self._status())

    async def GetPolicy(
        self,
        request: pb.GetPolicyRequest,
        context: grpc.aio.ServicerContext[pb.GetPolicyRequest, pb.GetPolicyResponse],
    ) -> pb.GetPolicyResponse:
        return pb.GetPolicyResponse(policy_toml=self._control.policy_toml())

    async def SetPolicy(
        self,
        request: pb.SetPolicyRequest,
        context: grpc.aio.ServicerContext[pb.SetPolicyRequest, pb.SetPolicyResponse],
    ) -> pb.SetPolicyResponse:
        try:
            kept = await self._control.set_policy(request.policy_toml)
        except PoolError as error:
            await _refuse(context, error)
        return pb.SetPolicyResponse(policy_toml=kept, status=self._status())

    def _status(self) -> pb.AgentStatus:
        return status_message(self._control.snapshot())


async def _refuse(context: grpc.aio.ServicerContext[Any, Any], error: PoolError) -> NoReturn:
    # The detail goes to the owner of this very machine: nothing to hide.
    await context.abort_with_status(to_grpc_status(error, public_detail=True))
    raise error


def status_message(snapshot: AgentSnapshot) -> pb.AgentStatus:
    """Return a snapshot as its message."""
    switches, compute, pool = snapshot.switches, snapshot.compute, snapshot.pool
    status = pb.AgentStatus(
        agent_version=snapshot.agent_version,
        vehicle_id=snapshot.vehicle_id,
        state=snapshot.phase.value,
        computing=snapshot.computing,
        verdict=_VERDICTS[snapshot.verdict.kind],
        reasons=[
            pb.Reason(code=reason.code.value, message=reason.message, remedy=reason.remedy)
            for reason in snapshot.verdict.reasons
        ],
        opted_in=switches.opted_in and switches.consent_readable,
        opt_in_changed_us=switches.opt_in_changed_us,
        paused=snapshot.paused,
        pause_until_us=switches.pause_until_us if snapshot.paused else 0,
        compute=pb.ComputeStatus(
            worker_alive=compute.worker_alive,
            program_sha256=compute.program_sha256,
            lease_attempts=compute.lease_attempts,
            lease_done=compute.lease_done,
            completed_total=compute.completed_total,
            abandoned_total=compute.abandoned_total,
            unacknowledged=compute.unacknowledged,
            compute_today_ms=compute.compute_today_ms,
            last_stop_ms=compute.last_stop_ms,
            watts=compute.watts,
            sandbox_missing=compute.sandbox_missing,
            compute_total_ms=compute.compute_total_ms,
            attempt_progress=compute.attempt_progress,
        ),
        energy=_energy_message(snapshot.energy),
        pool=pb.PoolStatus(
            address=pool.address,
            connected=pool.connected,
            last_contact_us=pool.last_contact_us,
            currency=pool.currency,
            held_micros=pool.held_micros,
            available_micros=pool.available_micros,
            paid_micros=pool.paid_micros,
            vehicle_net_micros=pool.vehicle_net_micros,
            verified_attempts=pool.verified_attempts,
            rejected_attempts=pool.rejected_attempts,
            quarantine_reason=pool.quarantine_reason,
            no_work_reason=pool.no_work_reason,
        ),
        events=[
            pb.AgentEvent(at_us=event.at_us, code=event.code, message=event.message)
            for event in snapshot.events
        ],
        at_us=snapshot.at_us,
    )
    if snapshot.signals is not None:
        status.signals.CopyFrom(_signals_message(snapshot.signals, snapshot))
    return status


def _energy_message(energy: EnergyFigures) -> pb.EnergyStatus:
    return pb.EnergyStatus(
        source=energy.source,
        not_measured=energy.not_measured,
        watts=energy.watts,
        idle_watts=energy.idle_watts if energy.idle_watts >= 0 else None,
        today_mj=energy.today_mj,
        electricity_today_micros=energy.electricity_today_micros,
        unpriced_today_mj=energy.unpriced_today_mj,
        joules_per_wu=energy.joules_per_wu,
        wu_per_hour=energy.wu_per_hour,
        estimated=energy.estimated,
        tariff=energy.tariff,
        tariff_currency=energy.tariff_currency,
        tariff_micros_per_kwh=energy.tariff_micros_per_kwh,
        net_micros_per_hour=energy.net_micros_per_hour,
        reserve_price_micros_per_wu=energy.reserve_price_micros_per_wu,
        refusal=energy.refusal,
    )


def _signals_message(signals: VehicleSignals, snapshot: AgentSnapshot) -> pb.VehicleSignals:
    return pb.VehicleSignals(
        plug=signals.plug.value,
        charge=signals.charge.value,
        discharging=signals.discharging,
        moving=signals.moving,
        soc_percent=signals.soc_percent,
        soc_limit_percent=signals.soc_limit_percent,
        charge_power_w=signals.charge_power_w,
        battery_power_w=signals.battery_power_w,
        eta_full_s=signals.eta_full_s,
        source=signals.source,
        source_class=signals.source_class.value,
        age_ms=snapshot.signals_age_ms,
        fresh=snapshot.signals_fresh,
        at_home=signals.at_home,
    )


class ControlServer:
    """The service on its socket."""

    def __init__(self, control: OwnerControl, path: Path) -> None:
        """Serve `control` at `path`."""
        self._path = path
        self._server = grpc.aio.server()
        pb_grpc.add_AgentControlServiceServicer_to_server(ControlServicer(control), self._server)

    async def start(self) -> None:
        """Listen. A socket that an earlier run left behind is taken away: the lock says that it is dead."""
        self._path.unlink(missing_ok=True)
        self._server.add_insecure_port(f"unix:{self._path}")
        await self._server.start()
        self._path.chmod(_SOCKET_MODE)

    async def stop(self) -> None:
        """Stop listening and remove the socket."""
        await self._server.stop(_STOP_GRACE_S)
        self._path.unlink(missing_ok=True)
