"""`pool-server run`: serves a pool until it is told to stop."""

import asyncio
import gc
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pool_server.identity.directory import PoolDirectory

if TYPE_CHECKING:
    from pool_server.config import ServerConfig

#: Allocations that are not freed between two looks at the youngest values, and looks at one generation
#: between two at the next.
_COLLECTOR_THRESHOLDS = (100_000, 50, 50)


@click.command()
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Data directory made by `pool-server init`.",
)
@click.option("--host", help="Address to listen on; overrides pool.toml.")
@click.option("--api-port", type=int, help="Port of the API listener; 0 takes a free one.")
@click.option("--fleet-port", type=int, help="Port of the fleet listener; 0 takes a free one.")
@click.option(
    "--public-host", multiple=True, help="Name or address of this server in its certificate; may be repeated."
)
@click.option("--log-json", is_flag=True, default=None, help="Log lines as JSON.")
@click.option("--verbose", is_flag=True, help="Log every refusal.")
def run(
    *,
    data: Path,
    host: str | None,
    api_port: int | None,
    fleet_port: int | None,
    public_host: tuple[str, ...],
    log_json: bool | None,
    verbose: bool,
) -> None:
    """Serve a pool. SIGTERM or Ctrl-C drains and stops; SIGKILL loses nothing that was acknowledged."""
    # Imported here: operator commands need no server, and should start at once.
    import uvloop

    from pool_server.config import load_config
    from pool_server.main.logs import configure_logs

    overrides: dict[str, Any] = {
        "host": host,
        "api_port": api_port,
        "fleet_port": fleet_port,
        "public_host": public_host or None,
        "log_json": log_json,
    }
    config = load_config(PoolDirectory(data).config, environment=os.environ, overrides=overrides)
    configure_logs(as_json=config.log_json, verbose=verbose)
    uvloop.run(_serve(data, config))


def _rest_collector() -> None:
    """Make the cycle collector look rarely, and never again at what the start made.

    A command makes thousands of small values that are freed as it ends, without cycles. At its defaults the
    collector walks them, and from time to time everything that was imported, which is a fifth of the
    server's time under load.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTOR_THRESHOLDS)


async def _serve(data: Path, config: "ServerConfig") -> None:
    from pool_protocol.program.admission import vet_in_child
    from pool_protocol.system import SystemClock, SystemIds
    from pool_server.main.serve import PoolServer

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    server = PoolServer(data, config=config, clock=SystemClock(), id_source=SystemIds(), vet=vet_in_child)
    try:
        addresses = await server.start()
        _rest_collector()
        click.echo(f"api {addresses.api}  fleet {addresses.fleet}", err=True)
        await server.wait(stopping)
    finally:
        await server.stop()
