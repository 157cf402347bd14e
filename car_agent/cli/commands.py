"""The commands of `car-agent`."""

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any, Final

import click

from car_agent import __version__
from car_agent.cli.client import (
    CALL_TIMEOUT_S,
    AgentNotRunningError,
    control_stub,
    get_status,
    plain,
    unreachable,
)
from car_agent.cli.explained import explained
from car_agent.cli.receipts import receipts_group
from car_agent.cli.show import status_text
from car_agent.cli.tariff import tariff_group
from car_agent.journal.consent import ConsentFile
from car_agent.journal.lock import exclusive
from car_agent.journal.settings import SOURCES, PolicyFile, parse_policy, policy_toml, read_settings
from car_agent.journal.state_directory import StateDirectory
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.system import SystemClock, SystemIds
from pool_protocol.v1 import agent_control_service_pb2 as pb

_DURATION: Final = re.compile(r"(?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s)?")


def default_state_directory() -> Path:
    """Return where the agent of this user keeps its state."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "chargepool-agent"


def parse_duration_s(text: str) -> int:
    """Return the seconds of "30m", "1h30m" or "45s".

    Raises:
        click.BadParameter: for anything else.
    """
    match = _DURATION.fullmatch(text.strip())
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    total_s = hours * 3_600 + minutes * 60 + seconds
    if total_s <= 0:
        raise click.BadParameter(f"{text!r} is not a duration such as 30m, 1h30m or 45s")
    return total_s


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="car-agent")
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Where keys, consent and journal lie. Default: $XDG_STATE_HOME/chargepool-agent.",
)
@click.pass_context
def main(context: click.Context, state_dir: Path | None) -> None:
    """Computes for a pool while the car charges, and never otherwise."""
    context.obj = StateDirectory((state_dir or default_state_directory()).absolute())


main.add_command(receipts_group)


@main.command("run")
@click.option("--source", type=click.Choice(SOURCES), default=None, help="Where signals come from.")
@click.option("--source-file", type=click.Path(dir_okay=False), default=None, help="For --source file.")
@click.option(
    "--simulated-script",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    default=None,
    help='For --source simulated: JSON lines {"at_s": 3, "set": {"plug": "plugged"}}.',
)
@click.option("--simulated-seed", type=int, default=0, show_default=True, help="Sessions drawn from a seed.")
@click.option("--simulated-speed", type=float, default=1.0, show_default=True, help="Times real time.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default=None)
@click.pass_obj
@explained
def run_command(
    directory: StateDirectory,
    source: str | None,
    source_file: str | None,
    *,
    simulated_script: Path | None,
    simulated_seed: int,
    simulated_speed: float,
    log_level: str | None,
) -> None:
    """Run the agent until it is told to stop."""
    # Imported on use: the small commands start without the session and NumPy.
    from car_agent.main.daemon import Daemon
    from car_agent.main.logs import set_up_logging
    from car_agent.main.sources import SimulationChoice, open_source

    directory.create()
    overrides = {"source": source, "source_file": source_file, "log_level": log_level}
    settings = read_settings(directory.settings, overrides)
    set_up_logging(settings.log_level)
    clock = SystemClock()
    simulation = SimulationChoice(script=simulated_script, seed=simulated_seed, speed=simulated_speed)
    daemon = Daemon(
        directory=directory,
        settings=settings,
        source=open_source(settings, simulation, clock=clock),
        clock=clock,
        ids=SystemIds(),
    )
    asyncio.run(daemon.run())


@main.command("pair")
@click.option("--pool", required=True, metavar="HOST:PORT", help="The pool's public address.")
@click.option(
    "--ca",
    "ca_file",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The pool's CA certificate (PEM).",
)
@click.option("--root-fingerprint", default=None, help="SHA-256 of the pool's root, if you were given it.")
@click.option("--again", is_flag=True, help="Replace the identity that is there.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, each step at once.")
@click.pass_obj
@explained
def pair_command(
    directory: StateDirectory,
    pool: str,
    ca_file: Path,
    root_fingerprint: str | None,
    *,
    again: bool,
    as_json: bool,
) -> None:
    """Pair this vehicle with a pool: shows a short code that the owner approves."""
    from car_agent.journal.identity import save_identity
    from car_agent.session.pairing import PairingCode, pair

    host, _, port = pool.rpartition(":")
    if not host or not port.isdecimal():
        raise click.BadParameter(
            f"{pool!r} is not HOST:PORT, such as pool.example.org:7443", param_hint="--pool"
        )
    directory.create()
    if directory.identity.exists() and not again:
        raise PoolError(
            ErrorCode.ALREADY_EXISTS,
            f"{directory.path} is paired already",
            advice="`car-agent doctor` shows with which pool; --again replaces the identity.",
        )
    settings = read_settings(directory.settings, {})

    def show_code(code: PairingCode) -> None:
        if as_json:
            _print_json(
                {
                    "user_code": code.user_code,
                    "expires_at_us": code.expires_at_us,
                    "key_fingerprint": code.key_fingerprint,
                }
            )
        else:
            click.echo(f"Code: {code.user_code}")
            # In groups of four, as the dashboard writes it: people compare it by eye.
            click.echo(f"Key:  {' '.join(re.findall('.{1,4}', code.key_fingerprint))}")
            click.echo("Approve it in the owner's dashboard (pool-tui), or let the owner approve it.")
            click.echo("Waiting ...")

    identity = asyncio.run(
        pair(
            pool,
            ca_pem=ca_file.read_bytes(),
            platforms=settings.platforms,
            clock=SystemClock(),
            source=SystemIds(),
            on_code=show_code,
            root_fingerprint=root_fingerprint,
        )
    )
    save_identity(directory, identity)
    if as_json:
        _print_json(
            {
                "vehicle_id": identity.vehicle_id,
                "owner_id": identity.owner_id,
                "pool_id": identity.pool_id,
                "fleet_address": identity.fleet_address,
                "root_fingerprint": identity.root.fingerprint,
            }
        )
    else:
        click.echo(f"Paired as {identity.vehicle_id} with {identity.pool_id}.")
        click.echo("The car computes only after you opt in: `car-agent opt-in`.")


@main.command("status")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--watch", is_flag=True, help="Again after each change, until you stop it.")
@click.pass_obj
@explained
def status_command(directory: StateDirectory, *, as_json: bool, watch: bool) -> None:
    """Show whether the car computes now, and if not why and what would change it."""
    try:
        if not watch:
            _print_status(get_status(directory), as_json=as_json)
            return
        with control_stub(directory) as stub:
            for response in stub.WatchStatus(pb.WatchStatusRequest()):
                _print_status(response.status, as_json=as_json)
    except AgentNotRunningError:
        raise unreachable(directory) from None
    except KeyboardInterrupt:
        return


def _print_status(status: pb.AgentStatus, *, as_json: bool) -> None:
    if as_json:
        _print_json(plain(status))
    else:
        click.echo(status_text(status) + "\n")


def _print_json(content: dict[str, Any]) -> None:
    click.echo(json.dumps(content))


@main.command("opt-in")
@click.pass_obj
@explained
def opt_in_command(directory: StateDirectory) -> None:
    """Let the car compute while it charges, from now on."""
    _set_opt_in(directory, opted_in=True)
    click.echo("Opted in. The car computes while it charges, and never otherwise.")


@main.command("opt-out")
@click.pass_obj
@explained
def opt_out_command(directory: StateDirectory) -> None:
    """Stop computing at once, for good."""
    stop_ms = _set_opt_in(directory, opted_in=False)
    click.echo(f"Opted out{_stop_text(stop_ms)}. The car does not compute any more.")


def _set_opt_in(directory: StateDirectory, *, opted_in: bool) -> float:
    try:
        with control_stub(directory) as stub:
            request = pb.SetOptInRequest(opted_in=opted_in)
            return stub.SetOptIn(request, timeout=CALL_TIMEOUT_S).stop_ms
    except AgentNotRunningError:
        directory.create()
        consent, now_us = ConsentFile(directory.consent), SystemClock().now_us()
        if not opted_in:
            # Opting out does not wait for a daemon that may hang: it wins, whoever holds the lock.
            consent.opt_out(now_us=now_us)
        with exclusive(directory.lock):
            if opted_in:
                consent.opt_in(now_us=now_us)
        return 0.0


@main.command("pause")
@click.argument("duration", required=False)
@click.pass_obj
@explained
def pause_command(directory: StateDirectory, duration: str | None) -> None:
    """Stop computing at once, for DURATION (30m, 1h30m) or until `resume`."""
    duration_s = parse_duration_s(duration) if duration else 0
    stop_ms = 0.0
    try:
        with control_stub(directory) as stub:
            request = pb.PauseRequest(duration_s=duration_s)
            stop_ms = stub.Pause(request, timeout=CALL_TIMEOUT_S).stop_ms
    except AgentNotRunningError:
        directory.create()
        until_us = SystemClock().now_us() + duration_s * 1_000_000 if duration_s else 0
        with exclusive(directory.lock):
            ConsentFile(directory.consent).pause(until_us=until_us)
    until = f"for {duration}" if duration else "until you resume"
    click.echo(f"Paused {until}{_stop_text(stop_ms)}.")


@main.command("resume")
@click.pass_obj
@explained
def resume_command(directory: StateDirectory) -> None:
    """End a pause."""
    try:
        with control_stub(directory) as stub:
            stub.Resume(pb.ResumeRequest(), timeout=CALL_TIMEOUT_S)
    except AgentNotRunningError:
        directory.create()
        with exclusive(directory.lock):
            ConsentFile(directory.consent).resume()
    click.echo("Resumed.")


def _stop_text(stop_ms: float) -> str:
    return f" (work stopped within {stop_ms:.0f} ms)" if stop_ms > 0 else ""


@main.group("policy")
def policy_group() -> None:
    """Show or set the owner's limits."""


@policy_group.command("show")
@click.pass_obj
@explained
def policy_show_command(directory: StateDirectory) -> None:
    """Print the limits as TOML."""
    try:
        with control_stub(directory) as stub:
            click.echo(stub.GetPolicy(pb.GetPolicyRequest(), timeout=CALL_TIMEOUT_S).policy_toml, nl=False)
    except AgentNotRunningError:
        click.echo(policy_toml(PolicyFile(directory.policy).read()), nl=False)


@policy_group.command("set")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.pass_obj
@explained
def policy_set_command(directory: StateDirectory, file: Path) -> None:
    """Set the limits from a TOML FILE; on an error the old ones stay."""
    text = file.read_text(encoding="utf-8")
    try:
        with control_stub(directory) as stub:
            stub.SetPolicy(pb.SetPolicyRequest(policy_toml=text), timeout=CALL_TIMEOUT_S)
    except AgentNotRunningError:
        directory.create()
        policy = parse_policy(text)
        with exclusive(directory.lock):
            PolicyFile(directory.policy).write(policy)
    click.echo("Limits set.")


@main.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@explained
def doctor_command(directory: StateDirectory, *, as_json: bool) -> None:
    """Check everything the agent needs, and say what to do about what is missing."""
    from car_agent.cli.doctor import Level, examine

    findings = asyncio.run(examine(directory))
    for finding in findings:
        if as_json:
            _print_json({"level": finding.level.value, "check": finding.check, "text": finding.text})
        else:
            click.echo(f"{finding.level.value:<5} {finding.check}: {finding.text}")
    if any(finding.level is Level.FAIL for finding in findings):
        sys.exit(1)


main.add_command(tariff_group)
