"""Operator command for the pool's report."""

import sys
from pathlib import Path

import click

from pool_protocol import amounts
from pool_protocol.v1 import admin_service_pb2 as pb
from pool_server.cli.output import json_option, money, plain, print_json, print_pairs, print_table, time
from pool_server.cli.remote import Remote


@click.command()
@click.option("--month", default="", help="For example 2026-11, UTC. Default: all time.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Write the report as CSV here; - for standard output.",
)
@json_option
@click.pass_obj
def report(remote: Remote, *, month: str, out: Path | None, as_json: bool) -> None:
    """Show who verified what, what it cost, and what is held, payable and paid."""
    answer: pb.GetReportResponse = remote.call("GetReport", pb.GetReportRequest(month=month))
    if out == Path("-") and not as_json:
        sys.stdout.buffer.write(answer.csv)
        return
    if out is not None and out != Path("-"):
        try:
            out.write_bytes(answer.csv)
        except OSError as error:
            raise click.ClickException(f"cannot write {out}: {error.strerror}") from error
    if as_json:
        print_json({**plain(answer), "csv": answer.csv.decode()})
        return
    _show(answer)
    if out is not None:
        click.echo(f"\n{answer.file_name}: {len(answer.csv)} bytes, in {out}", err=True)


def _show(report: pb.GetReportResponse) -> None:
    currency = report.currency
    print_pairs(
        [
            ("period", report.month or "all time"),
            ("made", time(report.made_at_us)),
            ("paid by buyers", money(report.buyers_spent_micros, currency)),
            ("paid by the pool for audits", money(report.verification_cost_micros, currency)),
            ("fees", money(report.total.fee_micros, currency)),
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
