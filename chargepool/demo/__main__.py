"""Command line of the demo: `python -m chargepool.demo`, `chargepool demo`, `make demo`."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType

import click

from chargepool.demo.console import Console
from chargepool.demo.processes import DemoFailed

INTERRUPTED = 130


def interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Treats SIGTERM and SIGHUP as Ctrl-C, so that no process is left behind."""
    raise KeyboardInterrupt


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--seed", type=click.IntRange(min=0), default=7, show_default=True, help="Repeats the simulation."
)
@click.option("--chaos", is_flag=True, help="SIGKILL the server three times and one agent once, in mid-job.")
@click.option("--tui", is_flag=True, help="Open the owner's dashboard at once (needs a terminal).")
@click.option("--keep", is_flag=True, help="Keep the data and logs.")
@click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), help="Use this empty directory, and keep it."
)
def main(seed: int, chaos: bool, tui: bool, keep: bool, data: Path | None) -> None:  # noqa: FBT001 - click's call
    """Run the whole road on this machine: a pool, six cars (one lies), a training job, a payout.

    Ends with `DEMO OK {json}` and exit status 0 if everything that it promises holds, otherwise with
    `DEMO FAILED: why` and 1. Takes about two minutes on two cores.
    """
    console = Console()
    if tui and not (sys.stdin.isatty() and sys.stdout.isatty()):
        console.line("--tui needs a terminal; going on without the dashboard")
        tui = False
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)
    try:
        from chargepool.demo.story import Options, play

        figures = play(Options(seed=seed, chaos=chaos, tui=tui, keep=keep, data=data), console)
    except DemoFailed as error:
        console.end_progress()
        console.line(f"DEMO FAILED: {error}")
        sys.exit(1)
    except ImportError as error:
        console.line(f"DEMO FAILED: {error}; install the demo's parts with `pip install 'chargepool[demo]'`")
        sys.exit(1)
    except KeyboardInterrupt:
        console.end_progress()
        console.line("DEMO FAILED: interrupted; every process was ended")
        sys.stdout.flush()
        os._exit(INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - the last line must say that it failed
        console.end_progress()
        console.line(f"DEMO FAILED: {type(error).__name__}: {error}")
        sys.exit(1)
    console.line(f"DEMO OK {json.dumps(figures)}")
    sys.stdout.flush()
    # The buyer's gRPC threads may still be closing; everything is decided and printed.
    os._exit(0)


if __name__ == "__main__":
    main()
