"""`pool-tui statement` and `pool-tui account`: an owner's papers, and what they say of the owner."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from chargepool._config import ClientConfig
from pool_protocol.errors import PoolError

_TIMEOUT_S = 30.0
_PAPER_TIMEOUT_S = 300.0
#: A dashboard starts without the account's locale rather than late.
_LOCALE_TIMEOUT_S = 2.0
_FILE = click.Path(path_type=Path, dir_okay=False)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command(
    epilog="""\b
Examples:
  pool-tui statement --month 2026-11
  pool-tui statement --month 2026-11 --pdf november.pdf --csv november.csv
"""
)
@click.option("--month", required=True, help="For example 2026-11, UTC.")
@click.option("--pdf", type=_FILE, help="Write it as PDF here.")
@click.option("--csv", type=_FILE, help="Write it as CSV here.")
@_json_option
@click.pass_obj
def statement(pool: ClientConfig, *, month: str, pdf: Path | None, csv: Path | None, as_json: bool) -> None:
    """Show what you earned and were paid in a month, or write it down."""
    from pool_protocol.file_parts import whole_files
    from pool_protocol.v1 import account_service_pb2, account_service_pb2_grpc, report_service_pb2_grpc
    from pool_protocol.v1 import report_service_pb2 as pb

    use_account_locale(pool)
    with _channel(pool) as channel, _refusals():
        answer = account_service_pb2_grpc.AccountServiceStub(channel).GetStatement(
            account_service_pb2.GetStatementRequest(month=month), timeout=_TIMEOUT_S
        )
        files: list[tuple[Path, bytes]] = []
        for path, wanted in ((pdf, pb.PAPER_FORMAT_PDF), (csv, pb.PAPER_FORMAT_CSV)):
            if path is None:
                continue
            call = report_service_pb2_grpc.ReportServiceStub(channel).GetOwnerStatement(
                pb.GetOwnerStatementRequest(month=month, format=wanted), timeout=_PAPER_TIMEOUT_S
            )
            [file] = whole_files(part.part for part in call)
            files.append((path, file.content))
    for path, content in files:
        try:
            path.write_bytes(content)
        except OSError as error:
            raise click.ClickException(f"cannot write {path}: {error.strerror}") from error
    if as_json:
        click.echo(json.dumps(_figures(answer), indent=2))
        return
    _tell(answer)
    for path, content in files:
        click.echo(f"{path}: {len(content)} bytes", err=True)


@click.group()
def account() -> None:
    """What papers say of you, and how amounts are written for you."""


@account.command()
@_json_option
@click.pass_obj
def show(pool: ClientConfig, *, as_json: bool) -> None:
    """Show what the pool knows of you."""
    _print(_get(pool), as_json=as_json)


def _set_command() -> click.Command:
    # The options need the stubs, and the stubs should not load for the dashboard's --help.
    from pool_protocol.particulars_options import changed, particulars_options
    from pool_protocol.v1 import particulars_service_pb2 as pb
    from pool_protocol.v1 import particulars_service_pb2_grpc

    @click.command(
        name="set",
        epilog="""\b
Examples:
  pool-tui account set --locale de_DE --name "Olga Ivanović" --country DE
  pool-tui account set --address-line "Hauptstr. 1" --address-line "10115 Berlin" --kind person
  pool-tui account set --clear birth_date
""",
    )
    @particulars_options
    @_json_option
    @click.pass_obj
    def set_(pool: ClientConfig, /, *, clear: tuple[str, ...], as_json: bool, **given: Any) -> None:
        """Set what papers say of you; everything is optional, what is not given stays as it is.

        Statements carry name and address. Tax reports of the pool's operator need them, a tax number, and of
        a person the date of birth.
        """
        wanted = changed(_get(pool), given, clear)
        with _channel(pool) as channel, _refusals():
            answer = particulars_service_pb2_grpc.ParticularsServiceStub(channel).SetOwnerParticulars(
                pb.SetOwnerParticularsRequest(particulars=wanted), timeout=_TIMEOUT_S
            )
        _print(answer.particulars, as_json=as_json)

    return set_


account.add_command(_set_command())


def use_account_locale(pool: ClientConfig | None) -> None:
    """Write amounts as the account says; as ever where the pool cannot be asked now."""
    import grpc

    from pool_protocol import amounts
    from pool_protocol.v1 import particulars_service_pb2 as pb
    from pool_protocol.v1 import particulars_service_pb2_grpc

    if pool is None:
        return
    with _channel(pool) as channel, suppress(grpc.RpcError):
        answer = particulars_service_pb2_grpc.ParticularsServiceStub(channel).GetOwnerParticulars(
            pb.GetOwnerParticularsRequest(), timeout=_LOCALE_TIMEOUT_S
        )
        amounts.use_locale(answer.particulars.locale)


def _get(pool: ClientConfig) -> Any:
    from pool_protocol.v1 import particulars_service_pb2 as pb
    from pool_protocol.v1 import particulars_service_pb2_grpc

    with _channel(pool) as channel, _refusals():
        answer = particulars_service_pb2_grpc.ParticularsServiceStub(channel).GetOwnerParticulars(
            pb.GetOwnerParticularsRequest(), timeout=_TIMEOUT_S
        )
    return answer.particulars


def _print(particulars: Any, *, as_json: bool) -> None:
    from pool_protocol.particulars_options import plain, shown

    if as_json:
        click.echo(json.dumps(plain(particulars), indent=2, ensure_ascii=False))
        return
    for name, value in shown(particulars):
        click.echo(f"{name:<13} {value or '-'}")


def _figures(answer: Any) -> dict[str, Any]:
    totals = answer.totals
    return {
        "month": answer.month,
        "currency": answer.currency,
        "opening_micros": answer.opening_micros,
        "closing_micros": answer.closing_micros,
        "lines": len(answer.lines),
        "work_uwu": totals.work_uwu,
        "gross_micros": totals.gross_micros,
        "fee_micros": totals.fee_micros,
        "net_micros": totals.net_micros,
        "electricity_micros": totals.energy.electricity_micros,
        "after_electricity_micros": (
            totals.after_electricity_micros if totals.HasField("after_electricity_micros") else None
        ),
    }


def _tell(answer: Any) -> None:
    from pool_protocol import amounts

    totals, currency = answer.totals, answer.currency
    rows = [
        ("payable at the beginning", amounts.amount(answer.opening_micros, currency)),
        ("verified work", f"{amounts.work(totals.work_uwu)} WU"),
        ("gross", amounts.amount(totals.gross_micros, currency)),
        ("the pool's fee", amounts.amount(totals.fee_micros, currency)),
        ("net", amounts.amount(totals.net_micros, currency)),
    ]
    if totals.HasField("after_electricity_micros"):
        rows += [
            ("electricity", amounts.amount(totals.energy.electricity_micros, currency)),
            ("left after electricity", amounts.amount(totals.after_electricity_micros, currency)),
        ]
    rows.append(("payable at the end", amounts.amount(answer.closing_micros, currency)))
    width = max(len(value) for _, value in rows)
    for name, value in rows:
        click.echo(f"{name:<26}{value:>{width}}")
    click.echo(f"{len(answer.lines)} lines; --pdf FILE or --csv FILE writes them down.")


@contextmanager
def _channel(pool: ClientConfig) -> Iterator[Any]:
    from chargepool._channel import open_channel

    channel = open_channel(pool.address, ca_pem=pool.ca_pem, token=pool.token)
    try:
        yield channel
    finally:
        channel.close()


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what the pool refuses into the command's end, with its words."""
    import grpc

    from pool_protocol.grpc_status import from_rpc_error

    try:
        yield
    except grpc.RpcError as error:
        raise _refusal(from_rpc_error(error)) from error
    except PoolError as error:
        raise _refusal(error) from error


def _refusal(error: PoolError) -> click.ClickException:
    # What the pool said of this request, not only of the kind of refusal: it names the field.
    return click.ClickException(f"{error.detail.rstrip('.')}. {error.next_step} ({error.code.value})")
