"""The `chargepool` command: quotes, runs, jobs, receipts and checks for buyers.

Exit status: 0 done, 1 failed (the last line says what to do), 2 wrong usage, 130 interrupted. Results go to
standard output, everything said to a person to standard error.
"""

import json
import sys
from collections.abc import Sequence

import click

from chargepool._errors import ChargepoolError
from chargepool.cli._account import balance, config, demo, doctor
from chargepool.cli._checking import program
from chargepool.cli._jobs import job, jobs
from chargepool.cli._log import log, solvency
from chargepool.cli._papers import account, invoice, usage
from chargepool.cli._price import price
from chargepool.cli._receipts import receipts
from chargepool.cli._work import quote, run

INTERRUPTED = 130

_EPILOG = """\b
Examples:
  chargepool doctor
  chargepool quote sweep.py:simulate --tasks 1000
  chargepool run sweep.py:simulate --inputs points.npz --output results.npz
  chargepool jobs
  chargepool job resume job_12
"""


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, epilog=_EPILOG
)
@click.version_option(package_name="chargepool", prog_name="chargepool")
def cli() -> None:
    """Compute JAX functions on charging cars, verified, at a price that you know before.

    The pool is found by --address, --ca and --token-file, the variables CHARGEPOOL_ADDRESS,
    CHARGEPOOL_CA_FILE and CHARGEPOOL_TOKEN_FILE, or client.toml; `chargepool config` shows which one holds.
    """


for _command in (
    quote,
    price,
    run,
    jobs,
    job,
    program,
    balance,
    receipts,
    log,
    solvency,
    invoice,
    usage,
    account,
    config,
    doctor,
    demo,
):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and end the process with its exit status."""
    sys.exit(run_command(list(sys.argv[1:] if arguments is None else arguments)))


def run_command(arguments: list[str]) -> int:
    """Run the command and return its exit status."""
    wants_json = "--json" in arguments
    try:
        status = cli.main(args=arguments, prog_name="chargepool", standalone_mode=False)
    except click.exceptions.Abort as abort:
        # click makes this out of Ctrl-C too, and out of a "no" to its question.
        if isinstance(abort.__cause__, KeyboardInterrupt):
            return _interrupted(abort.__cause__)
        click.echo("Nothing was done.", err=True)
        return 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except ChargepoolError as error:
        _say(error, wants_json=wants_json)
        return 1
    except KeyboardInterrupt as interrupt:
        return _interrupted(interrupt)
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    return status if isinstance(status, int) else 0


def _interrupted(interrupt: KeyboardInterrupt) -> int:
    click.echo("Interrupted.", err=True)
    for note in getattr(interrupt, "__notes__", ()):
        click.echo(note, err=True)
    return INTERRUPTED


def _say(error: ChargepoolError, *, wants_json: bool) -> None:
    if wants_json:
        content = {
            "error": {
                "code": error.code.value,
                "message": error.detail,
                "next_step": error.next_step,
                "context": error.context,
            }
        }
        click.echo(json.dumps(content), err=True)
        return
    click.echo(f"Error: {error.detail} [{error.code.value}]", err=True)
    if error.next_step:
        click.echo(f"Next: {error.next_step}", err=True)
    for note in getattr(error, "__notes__", ()):
        click.echo(note, err=True)
