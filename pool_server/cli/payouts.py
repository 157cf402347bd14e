"""Operator commands for payout runs: plan, look, approve by a second operator, export."""

import sys
from pathlib import Path

import click

from pool_protocol.system import SystemIds
from pool_protocol.v1 import admin_service_pb2 as pb
from pool_server.cli.output import json_option, money, print_json, print_pairs, print_table, time
from pool_server.cli.remote import Remote


@click.group()
def payouts() -> None:
    """Payout runs: plan -> approve (another operator) -> export."""


def _show(payout: pb.PayoutView) -> None:
    currency = payout.currency
    print_pairs(
        [
            ("payout", payout.payout_id),
            ("state", payout.state),
            ("total", money(payout.total_micros, currency)),
            ("planned", f"{time(payout.planned_at_us)} by {payout.planned_by}"),
            ("approved", f"{time(payout.approved_at_us)} {payout.approved_by}".strip()),
            ("file SHA-256", payout.file_sha256 or "-"),
        ]
    )
    click.echo()
    print_table(
        ["owner", "holder", "IBAN", "amount", "reference"],
        [
            [row.owner_id, row.holder_name, row.iban, money(row.amount_micros, currency), row.reference]
            for row in payout.rows
        ],
    )
    if payout.quarantined:
        click.echo("\nLeft out; the money stays available:")
        print_table(
            ["owner", "amount", "why"],
            [[row.owner_id, money(row.amount_micros, currency), row.reason] for row in payout.quarantined],
        )


@payouts.command("plan")
@click.option(
    "--key", default="", help="Idempotency key; the same key gives the same run. Default: a new one."
)
@json_option
@click.pass_obj
def plan(remote: Remote, *, key: str, as_json: bool) -> None:
    """Plan a run over all payable owners. Nothing is booked yet."""
    answer: pb.PlanPayoutResponse = remote.call(
        "PlanPayout", pb.PlanPayoutRequest(idempotency_key=key or f"cli-{SystemIds().nonce().hex()}")
    )
    if as_json:
        print_json(answer.payout)
        return
    _show(answer.payout)
    click.echo(
        "\nNext: another operator approves with\n  pool-server ... payouts approve"
        f" {answer.payout.payout_id} --total-micros {answer.payout.total_micros}"
    )


@payouts.command("list")
@json_option
@click.pass_obj
def list_runs(remote: Remote, *, as_json: bool) -> None:
    """List runs, newest first."""
    answer: pb.ListPayoutsResponse = remote.call("ListPayouts", pb.ListPayoutsRequest())
    if as_json:
        print_json(answer)
        return
    print_table(
        ["payout", "state", "total", "planned"],
        [
            [
                payout.payout_id,
                payout.state,
                money(payout.total_micros, payout.currency),
                time(payout.planned_at_us),
            ]
            for payout in answer.payouts
        ],
    )


@payouts.command("show")
@click.argument("payout")
@json_option
@click.pass_obj
def show(remote: Remote, *, payout: str, as_json: bool) -> None:
    """Show PAYOUT with its rows."""
    answer: pb.GetPayoutResponse = remote.call("GetPayout", pb.GetPayoutRequest(payout_id=payout))
    if as_json:
        print_json(answer.payout)
        return
    _show(answer.payout)


@payouts.command("approve")
@click.argument("payout")
@click.option("--total-micros", type=int, required=True, help="The total that you saw; another one refuses.")
@json_option
@click.pass_obj
def approve(remote: Remote, *, payout: str, total_micros: int, as_json: bool) -> None:
    """Approve PAYOUT; must be another operator than the one who planned it."""
    answer: pb.ApprovePayoutResponse = remote.call(
        "ApprovePayout", pb.ApprovePayoutRequest(payout_id=payout, expected_total_micros=total_micros)
    )
    if as_json:
        print_json(answer.payout)
        return
    _show(answer.payout)


@payouts.command("cancel")
@click.argument("payout")
@json_option
@click.pass_obj
def cancel(remote: Remote, *, payout: str, as_json: bool) -> None:
    """Drop a planned PAYOUT; nothing was booked."""
    answer: pb.CancelPayoutResponse = remote.call("CancelPayout", pb.CancelPayoutRequest(payout_id=payout))
    if as_json:
        print_json(answer.payout)
        return
    click.echo(f"{answer.payout.payout_id} is {answer.payout.state}.")


@payouts.command("export")
@click.argument("payout")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write here; default: to standard output."
)
@json_option
@click.pass_obj
def export(remote: Remote, *, payout: str, out: Path | None, as_json: bool) -> None:
    """Write the bank's file of an approved PAYOUT; the same bytes every time."""
    answer: pb.ExportPayoutResponse = remote.call("ExportPayout", pb.ExportPayoutRequest(payout_id=payout))
    if out is not None:
        out.write_bytes(answer.file)
    if as_json:
        print_json(
            {
                "payout_id": answer.payout.payout_id,
                "file_name": answer.file_name,
                "sha256": answer.sha256,
                "total_micros": answer.payout.total_micros,
                "written_to": str(out) if out is not None else "",
                "file": answer.file.decode("utf-8"),
            }
        )
    elif out is None:
        sys.stdout.buffer.write(answer.file)
    else:
        click.echo(
            f"{answer.file_name}: {len(answer.file)} bytes, SHA-256 {answer.sha256}, in {out}", err=True
        )
