"""Operator commands for payout runs: plan, review, approve by a second operator, export, cancel."""

import sys
from pathlib import Path

import click

from pool_protocol.amounts import cents
from pool_protocol.system import SystemIds
from pool_protocol.v1 import admin_service_pb2 as pb
from pool_protocol.v1 import payout_service_pb2 as payout_pb
from pool_protocol.v1.payout_service_pb2_grpc import PayoutServiceStub
from pool_server.cli.output import json_option, print_json, print_pairs, print_table, time
from pool_server.cli.remote import Remote

_EPILOG = """\b
The whole road; two operators, two tokens:
  payouts plan                          who is paid how much, who is left out and why
  payouts review payout_1               totals, movers, new accounts, warnings
  payouts approve payout_1 --total-micros N     (the other operator: --token-file)
  payouts export payout_1 --out payout_1.xml    upload this file to the bank
  payouts import-status FILE            what the bank says: pain.002, camt.054
  payouts show payout_1                 each payment: sent, settled, rejected, returned
"""


@click.group(epilog=_EPILOG)
def payouts() -> None:
    """Pay owners: plan -> review -> approve (another operator) -> export -> import-status."""


#: Payments printed unless all are asked for.
_ROWS_SHOWN = 30


def _payments(count: int) -> str:
    return "1 payment" if count == 1 else f"{count} payments"


def _show(payout: pb.PayoutView, *, every_row: bool = False) -> None:
    currency = payout.currency
    print_pairs(
        [
            ("payout", payout.payout_id),
            ("state", payout.state),
            ("rail", payout.rail),
            ("total", f"{cents(payout.total_micros, currency)} in {_payments(len(payout.rows))}"),
            ("planned", f"{time(payout.planned_at_us)} by {payout.planned_by}"),
            ("approved", f"{time(payout.approved_at_us)} {payout.approved_by}".strip()),
            ("file SHA-256", payout.file_sha256 or "-"),
            *(
                (part.state, f"{_payments(part.count)}, {cents(part.micros, currency)}")
                for part in payout.progress
            ),
        ]
    )
    click.echo()
    # Those with something to say stand first; of a large run the rest is left to --all and --json.
    rows = sorted(payout.rows, key=lambda row: not row.explanation)
    shown = rows if every_row else rows[:_ROWS_SHOWN]
    print_table(
        ["owner", "holder", "IBAN", "amount", "state", "reference", "why"],
        [
            [
                row.owner_id,
                row.holder_name,
                row.iban,
                cents(row.amount_micros, currency),
                row.state,
                row.reference,
                row.explanation,
            ]
            for row in shown
        ],
    )
    if len(shown) < len(rows):
        click.echo(f"... and {len(rows) - len(shown)} more: payouts show {payout.payout_id} --all")
    _show_left_out(payout)


def _show_left_out(payout: pb.PayoutView) -> None:
    if not payout.quarantined:
        return
    click.echo("\nLeft out; the money stays available, and the owners are told why:")
    print_table(
        ["owner", "amount", "reason", "why"],
        [
            [row.owner_id, cents(row.amount_micros, payout.currency), row.reason, row.explanation]
            for row in payout.quarantined
        ],
    )


def _next_step(payout: pb.PayoutView) -> None:
    """Say what comes next on the road."""
    steps = {
        "planned": f"pool-server ... payouts review {payout.payout_id}, then another operator runs\n"
        f"  pool-server ... payouts approve {payout.payout_id} --total-micros {payout.total_micros}",
        "approved": f"pool-server ... payouts export {payout.payout_id} --out FILE, and upload that",
        "exported": "when the bank reports: pool-server ... payouts import-status FILE",
    }
    if payout.state in steps:
        click.echo(f"\nNext: {steps[payout.state]}")


@payouts.command("plan")
@click.option(
    "--key", default="", help="Idempotency key; the same key gives the same run. Default: a new one."
)
@click.option(
    "--rail",
    type=click.Choice(["pain001", "csv"]),
    help="How to pay: a SEPA file, or a table. Default: SEPA where payout_debtor_iban is set in pool.toml.",
)
@json_option
@click.pass_obj
def plan(remote: Remote, *, key: str, rail: str | None, as_json: bool) -> None:
    """Plan a run over all payable owners. Nothing is booked yet.

    Owners below their threshold wait; owners who cannot be paid are left out with the reason, and do not
    stop the others. When nobody can be paid the run is kept as cancelled, and nothing has to be done.
    """
    answer: pb.PlanPayoutResponse = remote.call(
        "PlanPayout",
        pb.PlanPayoutRequest(idempotency_key=key or f"cli-{SystemIds().nonce().hex()}", rail=rail or ""),
    )
    if as_json:
        print_json(answer.payout)
        return
    _show(answer.payout)
    if answer.payout.state == "cancelled" and not answer.payout.rows:
        click.echo("\nNobody can be paid now: the run is closed, there is nothing to approve.")
    _next_step(answer.payout)


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
        ["payout", "state", "rail", "total", "planned"],
        [
            [
                payout.payout_id,
                payout.state,
                payout.rail,
                cents(payout.total_micros, payout.currency),
                time(payout.planned_at_us),
            ]
            for payout in answer.payouts
        ],
    )


@payouts.command("show")
@click.argument("payout")
@click.option("--all", "every_row", is_flag=True, help="Print every payment, however many there are.")
@json_option
@click.pass_obj
def show(remote: Remote, *, payout: str, every_row: bool, as_json: bool) -> None:
    """Show PAYOUT with each payment and where it is."""
    answer: pb.GetPayoutResponse = remote.call("GetPayout", pb.GetPayoutRequest(payout_id=payout))
    if as_json:
        print_json(answer.payout)
        return
    _show(answer.payout, every_row=every_row)
    _next_step(answer.payout)


@payouts.command("review")
@click.argument("payout")
@json_option
@click.pass_obj
def review(remote: Remote, *, payout: str, as_json: bool) -> None:
    """Read what an approver must know of PAYOUT: totals, movers, new accounts, left out rows, warnings."""
    answer: payout_pb.ReviewPayoutResponse = remote.call(
        "ReviewPayout", payout_pb.ReviewPayoutRequest(payout_id=payout), service=PayoutServiceStub
    )
    if as_json:
        print_json(answer)
        return
    view = answer.payout
    currency = view.currency
    before = (
        f"{cents(answer.previous_total_micros, currency)} in {_payments(answer.previous_row_count)}"
        f" ({answer.previous_payout_id})"
        if answer.previous_payout_id
        else "none"
    )
    waiting = answer.below_threshold_count
    print_pairs(
        [
            ("payout", f"{view.payout_id}, {view.state}, planned by {view.planned_by}"),
            ("total", f"{cents(view.total_micros, currency)} in {_payments(len(view.rows))}"),
            ("last run", before),
            ("left out", str(len(view.quarantined))),
            ("below threshold", f"{waiting}, {cents(answer.below_threshold_micros, currency)} together"),
            ("new accounts", str(len(answer.new_accounts))),
            ("at the bank", f"{cents(answer.bank_micros, currency)} by the books"),
            *(
                [
                    (
                        "as entered",
                        f"{cents(answer.entered_bank_micros, currency)} on {answer.entered_bank_as_of}",
                    )
                ]
                if answer.entered_bank_as_of
                else []
            ),
            ("owed", f"{cents(answer.owed_micros, currency)} to buyers, owners and tax offices"),
            ("under way", f"{cents(answer.under_way_micros, currency)} approved earlier, not settled"),
        ]
    )
    if answer.movers:
        click.echo("\nLargest changes against the last run:")
        print_table(
            ["owner", "now", "last run"],
            [
                [mover.owner_id, cents(mover.amount_micros, currency), cents(mover.previous_micros, currency)]
                for mover in answer.movers
            ],
        )
    _show_left_out(view)
    for warning in answer.warnings:
        click.echo(click.style(f"\nWarning: {warning}", fg="yellow"))
    if view.state == "planned":
        click.echo(
            "\nIf it is right, another operator than its planner runs\n  pool-server ... payouts approve"
            f" {view.payout_id} --total-micros {view.total_micros}"
        )


@payouts.command("approve")
@click.argument("payout")
@click.option(
    "--total-micros",
    type=click.IntRange(0, 2**63 - 1),
    required=True,
    help="The total that you saw; another one refuses.",
)
@json_option
@click.pass_obj
def approve(remote: Remote, *, payout: str, total_micros: int, as_json: bool) -> None:
    """Approve PAYOUT; must be another operator than the one who planned it.

    Books the money to clearing. Owners who changed their payout details since it was planned are withheld,
    and the others are paid: nobody is paid more, or elsewhere, than was reviewed.
    """
    answer: pb.ApprovePayoutResponse = remote.call(
        "ApprovePayout", pb.ApprovePayoutRequest(payout_id=payout, expected_total_micros=total_micros)
    )
    if as_json:
        print_json(answer.payout)
        return
    _show(answer.payout)
    _next_step(answer.payout)


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
    """Write the bank's file of an approved PAYOUT; the same bytes every time.

    A SEPA file (pain.001.001.09) is checked against its schema before anything is kept; the payments are
    asked for on the first bank day (TARGET) after the first export.
    """
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
        _next_step(answer.payout)
