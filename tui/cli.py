"""The command `pool-tui`: reads flags, refuses a non-terminal, wires the dashboard, runs it."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from chargepool._config import ClientConfig, load_config
from chargepool._errors import ConfigError
from pool_protocol.system import SystemClock
from tui import closing_commands, log_commands, paper_commands, record_commands
from tui import keymap as keys
from tui.gateway import Gateways
from tui.view_models.help_text import key_names

EXIT_USAGE = 2
SOCKET_NAME = "control.sock"
#: What the kernel takes in sockaddr_un, without the closing zero.
SOCKET_PATH_BYTES_MAX = 107

_NOT_A_TERMINAL = """pool-tui needs a terminal: standard {which} is not one.
For scripts and logs use the agent's own command:
  car-agent status --json     the status once, as JSON
  car-agent status --watch    the status as it changes, a line each"""

_HELP_END = """
\b
What it needs:
  the agent on this machine   its control socket; found by itself, or --agent-socket / --state-dir
  your account at the pool    --address, --ca-file, --token-file; or the variables CHARGEPOOL_ADDRESS,
                              CHARGEPOOL_CA_FILE, CHARGEPOOL_TOKEN_FILE; or client.toml
Either is enough. Without the pool you see the car; without the agent you see your account.

\b
Keys:
{keys}

\b
Keys can be changed in a keymap file: see --keymap.
In scripts use `car-agent status --json`, and the commands below; options stand before the command.
"""


def _keys_help() -> str:
    return "\n".join(f"  {key_names(action.keys):<12}{action.explained}" for action in keys.ACTIONS.values())


_ASKS_FOR_HELP = f"{__name__}.asks_for_help"


class _Commands(click.Group):
    """Commands that know beforehand whether the one that is called is only asked for its help."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the group and its command."""
        ctx.meta[_ASKS_FOR_HELP] = "--help" in ctx.args
        return super().invoke(ctx)


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    epilog=_HELP_END.format(keys=_keys_help()),
    context_settings={"max_content_width": 110, "help_option_names": ["-h", "--help"]},
)
@click.option("--agent-socket", type=click.Path(path_type=Path), help="The agent's control socket.")
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    help="The agent's state directory; its control.sock is used.",
)
@click.option("--no-agent", is_flag=True, help="Do not look for an agent on this machine.")
@click.option("--address", metavar="HOST:PORT", help="The pool's API.")
@click.option("--ca-file", type=click.Path(path_type=Path), help="The pool's CA certificate (ca.pem).")
@click.option("--token-file", type=click.Path(path_type=Path), help="File with your owner's token.")
@click.option(
    "--operator",
    is_flag=True,
    help="The operator's view; needs an operator's token.",
)
@click.option("--light", is_flag=True, help="Light colours. NO_COLOR is honoured too.")
@click.option(
    "--keymap",
    "keymap_file",
    type=click.Path(path_type=Path),
    help="Keymap file; by default chargepool/keymap.toml in your configuration folder.",
)
@click.pass_context
def main(
    context: click.Context,
    *,
    agent_socket: Path | None,
    state_dir: Path | None,
    no_agent: bool,
    address: str | None,
    ca_file: Path | None,
    token_file: Path | None,
    operator: bool,
    light: bool,
    keymap_file: Path | None,
) -> None:
    """Watch and switch your car's computing, and your earnings, in a terminal.

    The first screen says whether the car computes now; if not, why, and what would change it.
    """
    if context.invoked_subcommand is not None:
        if context.meta[_ASKS_FOR_HELP]:
            return  # whoever asks what a command does need not say yet where the pool is
        context.obj = _pool_config(address=address, ca_file=ca_file, token_file=token_file, required=True)
        return
    _require_terminal()
    if agent_socket is not None and state_dir is not None:
        raise click.UsageError("Give --agent-socket or --state-dir, not both.")
    try:
        keymap = keys.load(keymap_file or keys.default_path(os.environ), required=keymap_file is not None)
    except keys.KeymapError as error:
        raise click.UsageError(str(error)) from error
    pool = _pool_config(address=address, ca_file=ca_file, token_file=token_file, required=operator)
    if operator:
        if pool is None:
            raise click.UsageError("The operator's view needs --address, --ca-file and --token-file.")
        _run_operator(pool, keymap=keymap, light=light)
        return
    socket = None if no_agent else agent_socket or _state_dir(state_dir, os.environ) / SOCKET_NAME
    if socket is not None and len(os.fsencode(socket.absolute())) > SOCKET_PATH_BYTES_MAX:
        raise click.UsageError(
            f"{socket.absolute()} is too long for a socket: at most {SOCKET_PATH_BYTES_MAX} bytes. "
            "Give the agent a shorter --state-dir."
        )
    if socket is None and pool is None:
        raise click.UsageError("Without the agent there is only the pool: give --address.")
    paper_commands.use_account_locale(pool)
    _run_owner(_owner_gateways(socket, pool), keymap=keymap, light=light)


main.add_command(record_commands.evidence)
main.add_command(record_commands.appeal)
main.add_command(closing_commands.close_account)
main.add_command(paper_commands.statement)
main.add_command(paper_commands.account)
main.add_command(log_commands.receipts)
main.add_command(log_commands.solvency)


def _require_terminal() -> None:
    # Textual reads standard input and, on Linux, paints on standard error.
    streams = (("input", sys.stdin), ("output", sys.stdout), ("error", sys.stderr))
    for which, stream in streams:
        if not stream.isatty():
            click.echo(_NOT_A_TERMINAL.format(which=which), err=True)
            sys.exit(EXIT_USAGE)


def _state_dir(given: Path | None, environ: Mapping[str, str]) -> Path:
    """Return the agent's state directory, where `car-agent` itself has it."""
    if given is not None:
        return given
    base = environ.get("XDG_STATE_HOME")
    root = Path(base) if base else Path(environ.get("HOME", "~")).expanduser() / ".local" / "state"
    return root / "chargepool-agent"


def _pool_config(
    *, address: str | None, ca_file: Path | None, token_file: Path | None, required: bool
) -> ClientConfig | None:
    """Return the pool's configuration; None when nothing names a pool. Half of one is an error."""
    try:
        return load_config(address=address, ca_file=ca_file, token_file=token_file)
    except ConfigError as error:
        nothing_named = error.context.get("field") == "address" and not (ca_file or token_file)
        if nothing_named and not required:
            return None
        raise click.UsageError(str(error)) from error


def _owner_gateways(socket: Path | None, pool: ClientConfig | None) -> Callable[[], Gateways]:
    # gRPC's C core logs to standard error, which is the screen.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")

    def connect() -> Gateways:
        from chargepool._channel import open_aio_channel
        from tui.grpc_gateway import GrpcAccountGateway, GrpcAgentGateway

        agent = None if socket is None else GrpcAgentGateway(str(socket.absolute()))
        account = None
        if pool is not None:
            channel = open_aio_channel(pool.address, ca_pem=pool.ca_pem, token=pool.token)
            account = GrpcAccountGateway(channel=channel, address=pool.address, clock=SystemClock())
        return Gateways(agent=agent, account=account)

    return connect


def _run_owner(gateways: Callable[[], Gateways], *, keymap: Mapping[str, str], light: bool) -> None:
    from tui.app import OwnerApp

    app = OwnerApp(gateways=gateways, clock=SystemClock(), keymap=keymap, light=light)
    app.run()
    sys.exit(app.return_code or 0)


def _run_operator(pool: ClientConfig, *, keymap: Mapping[str, str], light: bool) -> None:
    from tui.operator_app import OperatorApp

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")

    def connect() -> Gateways:
        from chargepool._channel import open_aio_channel
        from tui.grpc_gateway import GrpcOperatorGateway

        channel = open_aio_channel(pool.address, ca_pem=pool.ca_pem, token=pool.token)
        return Gateways(operator=GrpcOperatorGateway(channel=channel, address=pool.address))

    app = OperatorApp(gateways=connect, clock=SystemClock(), keymap=keymap, light=light)
    app.run()
    sys.exit(app.return_code or 0)


if __name__ == "__main__":
    main()
