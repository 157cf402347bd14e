"""Checks payouts against the books: runs, files, and what the bank said. Reads only."""

import hashlib
from collections.abc import Mapping

from pool_server.core.ledger.audit import Check, Finding, LogAudit
from pool_server.core.ledger.model import TransferCode
from pool_server.core.payouts.model import PayoutRun, PayoutState
from pool_server.core.payouts.row_state import RowState
from pool_server.ports.unit_of_work import UnitOfWork

_StepSums = Mapping[tuple[int, RowState, RowState], int]


def check_payouts(uow: UnitOfWork, log: LogAudit, *, clearing_micros: int) -> list[Check]:
    """Check that each run is the sum of its rows, its transfers, its file and its payments' steps."""
    runs = uow.payouts.runs()
    steps = uow.banks.step_sums()
    return [
        _check_runs(uow, log, runs, steps),
        _check_steps(log, runs, steps, clearing_micros),
        _check_rounding(uow, log),
    ]


def _sum(steps: _StepSums, payout_id: int, *states: RowState) -> int:
    return sum(micros for (run, state, _), micros in steps.items() if run == payout_id and state in states)


def _check_runs(uow: UnitOfWork, log: LogAudit, runs: list[PayoutRun], steps: _StepSums) -> Check:
    finding = Finding("payouts_match_ledger")
    for run in runs:
        rows = [row for row in uow.payouts.rows(run.payout_id) if not row.reason]
        if (run.total_micros, run.row_count) != (sum(row.amount_micros for row in rows), len(rows)):
            finding.add(f"{run.text_id} is not the sum of its rows")
        is_booked = run.state in (PayoutState.APPROVED, PayoutState.EXPORTED)
        booked = run.total_micros - _sum(steps, run.payout_id, RowState.WITHHELD) if is_booked else 0
        if log.payouts[run.payout_id] != booked:
            finding.add(f"{run.text_id} ({run.state}) is booked with {log.payouts[run.payout_id]}")
        file = uow.payouts.file(run.payout_id)
        if (file is not None) != (run.state is PayoutState.EXPORTED):
            finding.add(f"{run.text_id} is {run.state} and has {'a' if file else 'no'} file")
        elif file is not None and not (
            hashlib.sha256(file.content).hexdigest() == file.sha256_hex == run.file_sha256
        ):
            finding.add(f"the file of {run.text_id} is not the one that was exported")
    unknown = (
        set(log.payouts) - {run.payout_id for run in runs} - {k for k, v in log.payouts.items() if v == 0}
    )
    for payout_id in sorted(unknown):
        finding.add(f"the log books payout_{payout_id}, which does not exist")
    return finding.check(f"{len(runs)} runs, {sum(log.payouts.values())} micros booked")


def _check_steps(log: LogAudit, runs: list[PayoutRun], steps: _StepSums, clearing_micros: int) -> Check:
    finding = Finding("payout_steps_match_ledger")
    payout_ids = {run.payout_id for run in runs}
    payout_ids |= {run for run, _, _ in steps} | {
        run for code, run in log.bank_side if code != TransferCode.PAYOUT_ROUNDING
    }
    settled_in_all = back_in_all = 0
    under_way = sum(log.payouts.values())
    for payout_id in sorted(payout_ids):
        settled = _sum(steps, payout_id, RowState.SETTLED)
        back = _sum(steps, payout_id, RowState.REJECTED, RowState.RETURNED)
        booked_settled = log.bank_side[TransferCode.PAYOUT_SETTLED.value, payout_id]
        booked_back = log.bank_side[TransferCode.PAYOUT_RETURNED.value, payout_id]
        if (settled, back) != (booked_settled, booked_back):
            finding.add(
                f"payout_{payout_id}: {settled} settled and {back} given back, "
                f"the log books {booked_settled} and {booked_back}"
            )
        from_bank = sum(
            micros
            for (run, _, before), micros in steps.items()
            if run == payout_id and before is RowState.SETTLED
        )
        under_way -= settled + back - from_bank
        settled_in_all, back_in_all = settled_in_all + settled, back_in_all + back
    if under_way != clearing_micros:
        finding.add(f"{under_way} micros are under way, and clearing holds {clearing_micros}")
    return finding.check(f"{settled_in_all} micros settled, {back_in_all} given back, {under_way} under way")


def _check_rounding(uow: UnitOfWork, log: LogAudit) -> Check:
    finding = Finding("rounding_is_of_owners_who_left")
    noted = sum(leaving.rounding_micros for leaving in uow.banks.all_leaving())
    booked = sum(
        micros for (code, _), micros in log.bank_side.items() if code == TransferCode.PAYOUT_ROUNDING
    )
    if noted != booked:
        finding.add(f"{noted} micros are noted, {booked} are booked")
    return finding.check(f"{booked} micros of rounding")
