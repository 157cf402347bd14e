"""Examines what the agent needs on this machine and says, line by line, what works and what to do.

Examining changes nothing: no consent, no key, no journal is written.
"""

import asyncio
import contextlib
import logging
import sqlite3
import stat
import tempfile
from dataclasses import dataclass
from enum import StrEnum, unique
from pathlib import Path
from typing import Final

import grpc.aio

from car_agent.cli.client import AgentNotRunningError, get_status
from car_agent.core.signals import ChargeState, PlugState, VehicleSignals
from car_agent.energy.find import find_counter
from car_agent.energy.owner_tariff import OwnerTariff
from car_agent.journal.consent import ConsentFile
from car_agent.journal.identity import Identity, certificate_span_us, load_identity
from car_agent.journal.probe_file import ProbeFile
from car_agent.journal.settings import AgentSettings, PolicyFile, read_settings
from car_agent.journal.state_directory import StateDirectory
from car_agent.main.numeric import probe_key
from car_agent.main.sources import SimulationChoice, open_source
from car_agent.runner.frames import Frame, FrameType
from car_agent.runner.process import DEFAULT_COMMAND, WorkerProcess, WorkerSettings
from car_agent.session.channel import open_channel
from pool_protocol.clock import Clock
from pool_protocol.errors import PoolError
from pool_protocol.grpc_status import from_rpc_error
from pool_protocol.money import format_micros
from pool_protocol.system import SystemClock
from pool_protocol.v1 import fleet_service_pb2
from pool_protocol.v1.fleet_service_pb2_grpc import FleetServiceStub

_WORKER_START_S: Final = 60.0
_SOURCE_S: Final = 3.0
_POOL_S: Final = 10.0
_DAY_US: Final = 86_400_000_000
#: 2026-01-01: a clock that is before this was never set.
_PLAUSIBLE_US: Final = 1_767_225_600_000_000
_SYNCHRONIZED = Path("/run/systemd/timesync/synchronized")


@unique
class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination."""

    level: Level
    check: str
    text: str


async def examine(directory: StateDirectory) -> list[Finding]:
    """Return all findings, in the order in which a newcomer should read them."""
    clock = SystemClock()
    logging.getLogger("car_agent").setLevel(logging.ERROR)
    findings = [_directory(directory)]
    try:
        settings = read_settings(directory.settings, {})
        findings.append(Finding(Level.OK, "settings", f"source {settings.source}"))
    except PoolError as error:
        findings.append(Finding(Level.FAIL, "settings", f"{error.detail}; correct {directory.settings}"))
        settings = AgentSettings()
    findings.append(_policy(directory))
    findings += _energy(directory, settings)
    findings.append(_consent(directory))
    findings.append(_journal(directory))
    findings.append(_clock(clock))
    findings.append(_daemon(directory))
    findings.append(await _source(settings, clock))
    findings += await _worker(settings, directory)
    findings += await _pool(directory, clock)
    return findings


def _directory(directory: StateDirectory) -> Finding:
    try:
        mode = stat.S_IMODE(directory.path.stat().st_mode)
    except OSError:
        return Finding(Level.WARN, "state", f"{directory.path} does not exist; `car-agent pair` makes it")
    if mode & 0o077:
        return Finding(
            Level.FAIL, "state", f"{directory.path} is open to others; run `chmod 700 {directory.path}`"
        )
    return Finding(Level.OK, "state", str(directory.path))


def _policy(directory: StateDirectory) -> Finding:
    try:
        policy = PolicyFile(directory.policy).read()
    except PoolError as error:
        return Finding(Level.FAIL, "policy", f"{error.detail}; correct {directory.policy}")
    return Finding(
        Level.OK,
        "policy",
        f"reserve {policy.min_soc_percent:.0f} % (resumes at {policy.resume_soc_percent:.0f} %),"
        f" starts after {policy.start_after_s:.0f} s of charging",
    )


def _energy(directory: StateDirectory, settings: AgentSettings) -> list[Finding]:
    found = find_counter(
        source=settings.energy_source, platforms=settings.platforms, rapl_root=Path(settings.rapl_root)
    )
    if found.counter is None:
        text = f"declared: {settings.watts:g} W (set `watts` in {directory.settings.name}); {found.why_not}"
        findings = [Finding(Level.OK, "energy", text)]
    else:
        text = f"measured: {found.counter.source.value}, times {settings.wall_factor:g} for the wall"
        found.counter.close()
        findings = [Finding(Level.OK, "energy", f"{text}; {found.why_not}" if found.why_not else text)]
    clock = SystemClock()
    tariff = OwnerTariff(directory.tariff, clock)
    tariff.refresh()
    price = tariff.price(clock.now_us())
    if price.micros_per_kwh is not None:
        now = f"{format_micros(price.micros_per_kwh)} {tariff.currency} per kWh now ({tariff.describe()})"
        return [*findings, Finding(Level.OK, "tariff", now)]
    return [*findings, Finding(Level.WARN if tariff.is_set else Level.OK, "tariff", price.why_not)]


def _consent(directory: StateDirectory) -> Finding:
    switches = ConsentFile(directory.consent).read()
    if not switches.consent_readable:
        return Finding(Level.FAIL, "consent", "the record cannot be read; opt in again: `car-agent opt-in`")
    if not switches.opted_in:
        return Finding(Level.WARN, "consent", "not opted in; nothing is computed before `car-agent opt-in`")
    return Finding(Level.OK, "consent", "opted in" + (", paused" if switches.paused else ""))


def _journal(directory: StateDirectory) -> Finding:
    if not directory.journal.exists():
        return Finding(Level.OK, "journal", "none yet")
    try:
        with contextlib.closing(sqlite3.connect(f"file:{directory.journal}?mode=ro", uri=True)) as connection:
            state = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            waiting = connection.execute("SELECT count(*) FROM bundles").fetchone()[0]
    except sqlite3.Error as error:
        return Finding(
            Level.FAIL, "journal", f"{error}; the agent sets it aside when it starts, consent is not in it"
        )
    if state != "ok":
        return Finding(Level.FAIL, "journal", f"damaged ({state}); the agent sets it aside when it starts")
    return Finding(Level.OK, "journal", f"sound, {waiting} bundles wait for the pool")


def _clock(clock: Clock) -> Finding:
    if clock.now_us() < _PLAUSIBLE_US:
        return Finding(
            Level.FAIL, "clock", "it is before 2026; set it, or leases and certificates are refused"
        )
    if not _SYNCHRONIZED.exists():
        return Finding(
            Level.WARN, "clock", "plausible; systemd-timesyncd does not say that it is synchronised"
        )
    return Finding(Level.OK, "clock", "synchronised")


def _daemon(directory: StateDirectory) -> Finding:
    try:
        status = get_status(directory)
    except AgentNotRunningError:
        return Finding(Level.WARN, "daemon", "not running; start it with `car-agent run`")
    except PoolError as error:
        return Finding(Level.FAIL, "daemon", f"does not answer: {error.detail}")
    return Finding(Level.OK, "daemon", f"running, {status.state}")


async def _source(settings: AgentSettings, clock: Clock) -> Finding:
    try:
        source = open_source(settings, SimulationChoice(), clock=clock)
    except PoolError as error:
        return Finding(Level.FAIL, "source", error.detail)
    reports: list[VehicleSignals] = []
    heard = asyncio.Event()

    def report(signals: VehicleSignals) -> None:
        reports.append(signals)
        heard.set()

    task = asyncio.create_task(source.run(report))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_SOURCE_S):
            await heard.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    if not reports:
        return Finding(Level.FAIL, "source", f"{source.name} reported nothing within {_SOURCE_S:.0f} s")
    signals = reports[0]
    text = f"{source.name} (class {source.source_class}): {signals.plug}, {signals.charge}"
    if signals.soc_percent is not None:
        text += f", battery {signals.soc_percent:.0f} %"
    if not signals.is_fresh(clock.monotonic_ns()):
        return Finding(Level.WARN, "source", f"{text}; too old to trust, so the car does not compute")
    if signals.plug is PlugState.UNKNOWN or signals.charge is ChargeState.UNKNOWN:
        return Finding(Level.WARN, "source", f"{text}; without plug and charge the car does not compute")
    return Finding(Level.OK, "source", text)


async def _worker(settings: AgentSettings, directory: StateDirectory) -> list[Finding]:
    """Start a real worker in a scratch directory of its own, and end it."""
    clock = SystemClock()
    answer: asyncio.Future[Frame | str] = asyncio.get_running_loop().create_future()

    async def on_frame(frame: Frame) -> None:
        if frame.type is FrameType.READY and not answer.done():
            answer.set_result(frame)

    def on_exit(_worker: WorkerProcess, cause: str) -> None:
        if not answer.done():
            answer.set_result(cause)

    with tempfile.TemporaryDirectory(prefix="car-agent-doctor-") as scratch:
        worker_settings = WorkerSettings(
            command=settings.worker_command or DEFAULT_COMMAND,
            scratch=Path(scratch),
            memory_bytes=settings.worker_memory_bytes,
            platforms=settings.platforms,
        )
        began_ns = clock.monotonic_ns()
        try:
            worker = await WorkerProcess.start(worker_settings, on_frame=on_frame, on_exit=on_exit)
        except PoolError as error:
            return [Finding(Level.FAIL, "worker", f"{error.detail}; install the extra `agent`")]
        result: Frame | str = "it was not ready in time"
        with contextlib.suppress(TimeoutError):
            result = await asyncio.wait_for(answer, _WORKER_START_S)
        ready_s = (clock.monotonic_ns() - began_ns) / 1e9
        worker.kill()
        await worker.wait_closed()
    if isinstance(result, str):
        return [
            Finding(Level.FAIL, "worker", f"{result}; run `{' '.join(worker_settings.command)}` to see why")
        ]
    started = Finding(
        Level.OK,
        "worker",
        f"jax {result.text('jax')}, jaxlib {result.text('jaxlib')}, ready in {ready_s:.1f} s",
    )
    missing = result.texts("sandbox_missing")
    if missing:
        sandbox = Finding(Level.WARN, "sandbox", f"not enforced here: {'; '.join(missing)}")
    else:
        sandbox = Finding(Level.OK, "sandbox", ", ".join(result.texts("sandbox_applied")) or "not reported")
    return [started, sandbox, _numeric(directory, worker_settings, result.text("jaxlib"))]


def _numeric(directory: StateDirectory, worker: WorkerSettings, jaxlib_version: str) -> Finding:
    """Say which numeric class this machine is of. Nothing is computed for it: the car may not be charging."""
    kept = ProbeFile(directory.numeric).read()
    when = "the worker finds it when it first computes while the car charges"
    if kept is None:
        return Finding(Level.OK, "numeric class", f"not known yet; {when}")
    key, probe = kept
    if key != probe_key(worker, jaxlib_version=jaxlib_version):
        why = f"{probe.class_id} was found with other versions or another processor"
        return Finding(Level.WARN, "numeric class", f"{why}; {when} again")
    return Finding(Level.OK, "numeric class", f"{probe.class_id}, profile {probe.profile}, current")


async def _pool(directory: StateDirectory, clock: Clock) -> list[Finding]:
    try:
        identity = load_identity(directory)
    except PoolError as error:
        return [Finding(Level.FAIL, "keys", f"{error.detail}; pair again: `car-agent pair --again`")]
    if identity is None:
        return [Finding(Level.WARN, "keys", "not paired; `car-agent pair --pool HOST:PORT --ca FILE`")]
    return [_certificate(identity, clock), await _reachable(identity)]


def _certificate(identity: Identity, clock: Clock) -> Finding:
    try:
        since_us, until_us = certificate_span_us(identity.certificate_pem)
    except PoolError as error:
        return Finding(Level.FAIL, "keys", f"{error.detail}; pair again: `car-agent pair --again`")
    now_us = clock.now_us()
    if now_us >= until_us:
        return Finding(
            Level.FAIL, "keys", "the certificate has expired; pair again: `car-agent pair --again`"
        )
    if now_us < since_us:
        return Finding(Level.FAIL, "keys", "the certificate is not valid yet; check the clock")
    days = (until_us - now_us) // _DAY_US
    return Finding(Level.OK, "keys", f"{identity.vehicle_id}, certificate valid for {days} days")


async def _reachable(identity: Identity) -> Finding:
    async with open_channel(
        identity.fleet_address,
        ca_pem=identity.ca_pem,
        tls_key_pem=identity.tls_key_pem,
        certificate_pem=identity.certificate_pem,
    ) as channel:
        version = identity.root.document.version
        try:
            await FleetServiceStub(channel).GetRoot(
                fleet_service_pb2.GetRootRequest(after_version=version), timeout=_POOL_S
            )
        except grpc.aio.AioRpcError as error:
            refusal = from_rpc_error(error)
            return Finding(
                Level.FAIL, "pool", f"{identity.fleet_address}: {refusal.code.value}; {refusal.next_step}"
            )
    return Finding(Level.OK, "pool", f"{identity.fleet_address} answers")
