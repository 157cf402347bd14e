"""Builds the demo's world with the programs' own commands: a pool, owners, a buyer, six cars."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from chargepool._channel import open_channel
from chargepool.demo.cast import Car, Part, charging, iban_of, write_script, write_signals
from chargepool.demo.processes import DemoFailed, Household, Program, free_port, run_to_end
from pool_protocol import amounts
from pool_protocol.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    admin_service_pb2,
    admin_service_pb2_grpc,
    agent_control_service_pb2,
    agent_control_service_pb2_grpc,
)

DEPOSIT_MICROS = 500_000_000
THRESHOLD_MICROS = 10_000
READY_TIMEOUT_S = 60.0
CALL_TIMEOUT_S = 20.0

POOL_SETTINGS = """
# Written by the demo: a dispute window that is short, though long enough for a look-back; a price at which
# minutes of work make cents.
posted_price_micros_per_wu = {price}
# Owners are paid by SEPA file, from an account of a bank code that no bank has.
payout_debtor_name = "Chargepool demo"
payout_debtor_iban = "{iban}"
payout_debtor_town = "Berlin"
payout_debtor_country = "DE"
# The accounts at the end are of one price.
price_mode = "fixed"
fee_ppm = 100000
dispute_window_s = 20
lease_timeout_s = 60
# A small cast that is known: one auditor per newcomer is enough, and more would only take longer.
colluding_auditor_share = 0.0
"""
PRICE_MICROS_PER_WU = 60_000_000
#: The liar is a sleeper: so many tasks it computes as it should.
LIAR_SLEEPS_TASKS = 4


@dataclass
class PairedCar:
    """A car whose agent is enrolled, and its owner's access."""

    car: Car
    state_dir: Path
    owner_id: str
    owner_token: str
    vehicle_id: str
    agent: Program | None = None

    @property
    def signals_file(self) -> Path:
        """What the `file` source of the car that is unplugged reads."""
        return self.state_dir / "signals.json"

    def control_channel(self) -> grpc.Channel:
        """A channel to the agent's local socket."""
        return grpc.insecure_channel(f"unix:{self.state_dir / 'control.sock'}")

    def status(self) -> agent_control_service_pb2.AgentStatus | None:
        """How the agent stands; None while it does not answer."""
        with self.control_channel() as channel:
            stub = agent_control_service_pb2_grpc.AgentControlServiceStub(channel)
            try:
                answer = stub.GetStatus(
                    agent_control_service_pb2.GetStatusRequest(), timeout=2.0, wait_for_ready=False
                )
            except grpc.RpcError:
                return None
            status: agent_control_service_pb2.AgentStatus = answer.status
            return status


@dataclass
class World:
    """Everything that runs, and how to reach it."""

    directory: Path
    address: str
    ca_file: Path
    server: Program
    operator_token: str
    second_operator_token: str
    buyer_id: str
    buyer_token: str
    cars: list[PairedCar]

    def channel(self, token: str) -> grpc.Channel:
        """A channel to the pool as the bearer of `token`; calls wait while the server is away."""
        return open_channel(self.address, ca_pem=self.ca_file.read_bytes(), token=token)

    def only(self, part: Part) -> PairedCar:
        """The car that plays `part`."""
        return next(c for c in self.cars if c.car.part is part)


def command_of(module: str, *arguments: str) -> list[str]:
    """A program of the house as a command of this interpreter."""
    return [sys.executable, "-m", module, *arguments]


def build_world(directory: Path, household: Household, cars: list[Car], *, say: Any) -> World:
    """Initialises the pool, starts it, and pairs every car with its owner.

    Raises:
        DemoFailed: a command failed, or the server did not come up in time.
    """
    data = directory / "pool"
    run_to_end(command_of("pool_server.cli", "init", "--data", str(data), "--json"))
    settings = data / "pool.toml"
    mine = POOL_SETTINGS.format(price=PRICE_MICROS_PER_WU, iban=iban_of(1))
    ours = set(tomllib.loads(mine))
    kept = [line for line in settings.read_text().splitlines() if line.split("=")[0].strip() not in ours]
    settings.write_text(mine + "\n".join(kept) + "\n")
    api_port, fleet_port = free_port(), free_port()
    server = household.add(
        "pool-server",
        command_of(
            "pool_server.cli", "run", "--data", str(data), "--host", "127.0.0.1",
            "--api-port", str(api_port), "--fleet-port", str(fleet_port),
        ),
        directory / "pool-server.log",
    )  # fmt: skip
    address, ca_file = f"127.0.0.1:{api_port}", data / "ca.pem"
    operator_token = (data / "operator.token").read_text().strip()
    with open_channel(address, ca_pem=ca_file.read_bytes(), token=operator_token) as channel:
        wait_until_served(channel, server)
        admin = admin_service_pb2_grpc.AdminServiceStub(channel)
        second = create_operator(data, "Second pair of eyes")
        buyer = create(admin, "buyer", "Digits laboratory")
        admin.RecordDeposit(
            admin_service_pb2.RecordDepositRequest(
                buyer_id=buyer.principal_id, amount_micros=DEPOSIT_MICROS, reference="demo deposit"
            ),
            timeout=CALL_TIMEOUT_S,
        )
        owners = [create(admin, "owner", car.owner_name) for car in cars]
    say(f"pool-server serves on {address} (API) and 127.0.0.1:{fleet_port} (cars, mutual TLS)")
    say(f"buyer deposited {amounts.cents(DEPOSIT_MICROS, 'EUR')}; {len(owners)} owners have accounts")
    with ThreadPoolExecutor(max_workers=2) as pool:
        paired = list(
            pool.map(
                lambda pair: pair_car(pair[0], pair[1], directory, address, ca_file),
                zip(cars, owners, strict=True),
            )
        )
    say(f"{len(paired)} cars paired: each showed a code, each owner approved it, all opted in")
    return World(
        directory=directory,
        address=address,
        ca_file=ca_file,
        server=server,
        operator_token=operator_token,
        second_operator_token=second.token,
        buyer_id=buyer.principal_id,
        buyer_token=buyer.token,
        cars=paired,
    )


def wait_until_served(channel: grpc.Channel, server: Program) -> None:
    """Waits until the server answers.

    Raises:
        DemoFailed: it ended, or did not answer in time.
    """
    admin = admin_service_pb2_grpc.AdminServiceStub(channel)
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if not server.alive:
            raise DemoFailed(f"pool-server ended at its start:\n{server.tail()}")
        try:
            admin.GetOverview(admin_service_pb2.GetOverviewRequest(), timeout=2.0)
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise DemoFailed(f"pool-server refused its first call: {error.details()}") from error
            time.sleep(0.1)
        else:
            return
    raise DemoFailed(f"pool-server did not answer within {READY_TIMEOUT_S:.0f} s:\n{server.tail()}")


def create(
    admin: admin_service_pb2_grpc.AdminServiceStub, role: str, name: str
) -> admin_service_pb2.CreatePrincipalResponse:
    """Makes an owner or a buyer with a token."""
    made: admin_service_pb2.CreatePrincipalResponse = admin.CreatePrincipal(
        admin_service_pb2.CreatePrincipalRequest(role=role, name=name), timeout=CALL_TIMEOUT_S
    )
    return made


def create_operator(data: Path, name: str) -> admin_service_pb2.CreatePrincipalResponse:
    """Makes another operator with a token, as it is done: on the pool's machine."""
    made = json.loads(run_to_end(
        command_of(
            "pool_server.cli", "--data", str(data), "principals", "create", "--role", "operator",
            "--name", name, "--json",
        )
    ))  # fmt: skip
    return admin_service_pb2.CreatePrincipalResponse(
        principal_id=made["principal_id"], token=made["token"], token_id=made["token_id"]
    )


def pair_car(
    car: Car,
    owner: admin_service_pb2.CreatePrincipalResponse,
    directory: Path,
    address: str,
    ca_file: Path,
) -> PairedCar:
    """Pairs one agent as a person would: the agent shows a code, the owner approves it."""
    state = directory / car.name
    state.mkdir()
    write_settings(car, state)
    agent = command_of("car_agent.cli", "--state-dir", str(state))
    with subprocess.Popen(
        [*agent, "pair", "--pool", address, "--ca", str(ca_file), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    ) as pairing:
        if pairing.stdout is None or pairing.stderr is None:
            raise DemoFailed("the pairing command has no output")
        first = pairing.stdout.readline()
        if not first:
            raise DemoFailed(f"pairing {car.name} failed: {pairing.stderr.read()[-800:]}")
        code = json.loads(first)["user_code"]
        with open_channel(address, ca_pem=ca_file.read_bytes(), token=owner.token) as channel:
            account = account_service_pb2_grpc.AccountServiceStub(channel)
            approved = account.ApproveDevice(
                account_service_pb2.ApproveDeviceRequest(user_code=code, label=car.name),
                timeout=CALL_TIMEOUT_S,
            )
            account.SetPayoutDetails(
                account_service_pb2.SetPayoutDetailsRequest(
                    details=account_service_pb2.PayoutDetails(
                        holder_name=car.owner_name,
                        iban=car.iban,
                        threshold_micros=THRESHOLD_MICROS,
                        town="Berlin",
                        country="DE",
                    )
                ),
                timeout=CALL_TIMEOUT_S,
            )
        if pairing.wait(30) != 0:
            raise DemoFailed(f"pairing {car.name} failed: {pairing.stderr.read()[-800:]}")
    run_to_end([*agent, "opt-in"])
    return PairedCar(
        car=car,
        state_dir=state,
        owner_id=owner.principal_id,
        owner_token=owner.token,
        vehicle_id=approved.vehicle_id,
    )


def write_settings(car: Car, state: Path) -> None:
    """Writes what an owner would set: limits, declared watts, the tariff; the liar has its own worker."""
    (state / "policy.toml").write_text("start_after_s = 0.5\n")
    settings = [f'energy_source = "declared"\nwatts = {car.watts}\n']
    if car.part is Part.LIAR:
        sleep = ("--honest", str(LIAR_SLEEPS_TASKS), "--tally", str(state / "tally"))
        liar = json.dumps(command_of("chargepool.demo.lying_worker", *sleep))
        settings.append(f"worker_command = {liar}\n")
    (state / "agent.toml").write_text("".join(settings))
    if car.tariff:
        (state / "tariff.toml").write_text(car.tariff)


def start_agents(world: World, household: Household) -> None:
    """Starts the six agents with their charging sessions."""
    for paired in world.cars:
        command = command_of("car_agent.cli", "--state-dir", str(paired.state_dir), "run")
        if paired.car.part is Part.UNPLUGGED:
            write_signals(paired.signals_file, charging(paired.car, soc_percent=paired.car.soc_percent))
            command += ["--source", "file", "--source-file", str(paired.signals_file)]
        else:
            script = paired.state_dir / "sessions.jsonl"
            write_script(paired.car, script)
            command += ["--source", "simulated", "--simulated-script", str(script)]
        paired.agent = household.add(paired.car.name, command, world.directory / f"{paired.car.name}.log")


def fresh_directory(base: Path | None) -> Path:
    """An empty directory for the demo's data, short enough for unix sockets."""
    if base is None:
        return Path(tempfile.mkdtemp(prefix="chargepool-"))
    if base.exists() and any(base.iterdir()):
        raise DemoFailed(f"{base} is not empty; name another with --data, or remove it")
    base.mkdir(parents=True, exist_ok=True)
    return base.resolve()


def remove(directory: Path) -> None:
    """Removes the demo's data."""
    shutil.rmtree(directory, ignore_errors=True)


def new_key() -> str:
    """An idempotency key."""
    return secrets.token_hex(16)
