"""Operator commands for papers: the payout report, statements, invoices, yearly totals."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from pool_protocol import amounts
from pool_protocol.file_parts import ReceivedFile, whole_files
from pool_protocol.v1 import admin_service_pb2 as pb
from pool_protocol.v1 import report_service_pb2 as papers
from pool_protocol.v1 import report_service_pb2_grpc
from pool_server.cli.output import (
    json_option,
    money,
    plain,
    print_json,
    print_pairs,
    print_table,
    time,
    write_file,
)
from pool_server.cli.remote import Remote

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_FORMATS = {"pdf": papers.PAPER_FORMAT_PDF, "csv": papers.PAPER_FORMAT_CSV}
_YEARLY = {"dac7": papers.YEARLY_FORMAT_DAC7, "1099": papers.YEARLY_FORMAT_1099}
_STUB = report_service_pb2_grpc.ReportServiceStub
_month_option = click.option("--month", required=True, help="For example 2026-11, UTC.")
_folder_option = click.option("--out", required=True, type=_FOLDER, help="Write the files into this folder.")
_format_option = click.option(
    "--format", "formats", multiple=True, type=click.Choice(sorted(_FORMATS)), help="Default: both."
)


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  pool-server report --month 2026-11
  pool-server report --month 2026-11 --pdf payouts.pdf
  pool-server report statements --month 2026-11 --out statements/
  pool-server report yearly --year 2026 --format dac7 --out dac7.csv
""",
)
@click.option("--month", default="", help="For example 2026-11, UTC. Default: all time.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Write the report as CSV here; - for standard output.",
)
@click.option("--pdf", type=_FILE, help="Write the report as PDF here.")
@json_option
@click.pass_context
def report(context: click.Context, *, month: str, out: Path | None, pdf: Path | None, as_json: bool) -> None:
    """Show who verified what, what it cost, what moved, and what is held, payable and paid."""
    if context.invoked_subcommand is not None:
        if month or out or pdf or as_json:
            raise click.UsageError(f"Options of `{context.invoked_subcommand}` stand behind it.")
        return
    remote: Remote = context.obj
    answer: pb.GetReportResponse = remote.call("GetReport", pb.GetReportRequest(month=month))
    if pdf is not None:
        request = papers.ExportReportRequest(month=month, format=papers.PAPER_FORMAT_PDF)
        [file] = whole_files(part.part for part in remote.stream("ExportReport", request, service=_STUB))
        write_file(pdf, file.content)
    if out == Path("-") and not as_json:
        sys.stdout.buffer.write(answer.csv)
        return
    if out is not None and out != Path("-"):
        write_file(out, answer.csv)
    if as_json:
        print_json({**plain(answer), "csv": answer.csv.decode()})
        return
    _show(answer)
    if out is not None:
        click.echo(f"\n{answer.file_name}: {len(answer.csv)} bytes, in {out}", err=True)


@report.command()
@_month_option
@_folder_option
@_format_option
@json_option
@click.pass_obj
def statements(remote: Remote, *, month: str, out: Path, formats: tuple[str, ...], as_json: bool) -> None:
    """Write every owner's statement of a month; owners without money or work in it are left out."""
    request = papers.ExportStatementsRequest(month=month, formats=[_FORMATS[name] for name in formats])
    answers = remote.stream("ExportStatements", request, service=_STUB)
    _write_all(out, answers, what="statements", as_json=as_json)


@report.command()
@_month_option
@_folder_option
@_format_option
@json_option
@click.pass_obj
def invoices(remote: Remote, *, month: str, out: Path, formats: tuple[str, ...], as_json: bool) -> None:
    """Issue and write every buyer's invoice, or statement of prepaid usage, of a month that is over.

    Which of the two is the setting buyer_document. What was issued once is written again as it was.
    """
    request = papers.ExportInvoicesRequest(month=month, formats=[_FORMATS[name] for name in formats])
    answers = remote.stream("ExportInvoices", request, service=_STUB)
    _write_all(out, answers, what="invoices", as_json=as_json)


@report.command()
@click.option("--year", required=True, type=click.IntRange(2000, 9998), help="For example 2026, UTC.")
@click.option("--format", "wanted", required=True, type=click.Choice(sorted(_YEARLY)), help="Whose fields.")
@click.option("--out", required=True, type=_FILE, help="Write the CSV here.")
@json_option
@click.pass_obj
def yearly(remote: Remote, *, year: int, wanted: str, out: Path, as_json: bool) -> None:
    """Write every owner's totals of a year for tax authorities.

    Missing particulars are left empty and listed; owners set theirs with `pool-tui account set`, you with
    `pool-server account set`. How the activity is classified, and the thresholds, are settings.
    """
    missing: dict[str, list[str]] = {}

    def parts(answers: Iterable[Any]) -> Iterator[papers.FilePart]:
        for answer in answers:
            missing.update({one.principal_id: list(one.fields) for one in answer.missing})
            yield answer.part

    request = papers.ExportYearlyRequest(year=year, format=_YEARLY[wanted])
    [file] = whole_files(parts(remote.stream("ExportYearly", request, service=_STUB)))
    write_file(out, file.content)
    if as_json:
        print_json({"file": str(out), "sha256": file.sha256, "missing": missing})
        return
    count = file.content.count(b"\n") - 1
    click.echo(f"{out}: {count} owners")
    if missing:
        click.echo(f"\n{len(missing)} owners have not said:")
        print_table(["owner", "missing"], [[owner, ", ".join(fields)] for owner, fields in missing.items()])


def _write_all(folder: Path, answers: Iterable[Any], *, what: str, as_json: bool) -> None:
    """Write files as they come, under a progress bar where somebody looks."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.ClickException(f"cannot make {folder}: {error.strerror}") from error
    written: list[ReceivedFile] = []
    with click.progressbar(length=1, label=what, file=sys.stderr, item_show_func=_name_of) as bar:
        for file in whole_files(answer.part for answer in answers):
            bar.length = max(file.count, 1)
            bar.update(max(0, file.index + 1 - bar.pos), file)
            write_file(folder / file.name, file.content)
            written.append(file)
        bar.update(max(0, (bar.length or 1) - bar.pos))
    if as_json:
        print_json(
            {
                "folder": str(folder),
                "files": [
                    {"name": file.name, "bytes": len(file.content), "sha256": file.sha256} for file in written
                ],
            }
        )
        return
    click.echo(f"{len(written)} files in {folder}")


def _name_of(file: ReceivedFile | None) -> str | None:
    return None if file is None else file.name


def _show(report: pb.GetReportResponse) -> None:
    currency = report.currency
    print_pairs(
        [
            ("period", report.month or "all time"),
            ("made", time(report.made_at_us)),
            ("paid by buyers", money(report.buyers_spent_micros, currency)),
            ("paid by the pool for audits", money(report.verification_cost_micros, currency)),
            ("fees", money(report.total.fee_micros, currency)),
            ("take rate (fees per gross)", amounts.percent(report.take_rate_ppm)),
            ("net take rate (after audits)", amounts.percent(report.net_take_rate_ppm)),
            ("taken back for wrong results", money(report.clawed_back_micros, currency)),
            ("paid for overturned rejections", money(report.appealed_micros, currency)),
            ("payouts that came back", f"{report.returned_count}, {money(report.returned_micros, currency)}"),
            ("checked again now", money(report.questioned_micros, currency)),
            ("vehicles in quarantine", str(report.vehicles_quarantined)),
        ]
    )
    click.echo()
    lines = [*report.owners, report.total]
    print_table(
        ["owner", "verified", "work (WU)", "gross", "fee", "net", "held", "available", "paid"],
        [
            [
                line.owner_id or "total",
                str(line.verified_attempts),
                amounts.work(line.work_uwu),
                *(
                    money(amount_micros, currency)
                    for amount_micros in (
                        line.gross_micros,
                        line.fee_micros,
                        line.net_micros,
                        line.held_micros,
                        line.available_micros,
                        line.paid_micros,
                    )
                ),
            ]
            for line in lines
        ],
    )
    _show_ages("held money by age", "receipts", report.held_by_age, currency)
    _show_ages("money reserved for jobs by age", "jobs", report.escrow_by_age, currency)
    if report.movers:
        click.echo("\nmovers against the month before")
        print_table(
            ["owner", "net", "before", "change"],
            [
                [
                    mover.owner_id,
                    money(mover.net_micros, currency),
                    money(mover.before_micros, currency),
                    money(mover.net_micros - mover.before_micros, currency),
                ]
                for mover in report.movers
            ],
        )
    if report.left_out:
        click.echo("\npayout rows in quarantine")
        print_table(
            ["run", "owner", "amount", "reason"],
            [
                [row.payout_id, row.owner_id, money(row.amount_micros, currency), row.reason]
                for row in report.left_out
            ],
        )


def _show_ages(heading: str, what: str, classes: Iterable[pb.ReportAge], currency: str) -> None:
    click.echo(f"\n{heading}")
    print_table(
        ["days", what, "amount"],
        [
            [
                f"{one.from_days} to {one.until_days}" if one.until_days else f"over {one.from_days}",
                str(one.count),
                money(one.amount_micros, currency),
            ]
            for one in classes
        ],
    )
