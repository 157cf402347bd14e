"""What banks report in SQL: reports, their results, steps of payments, owners who leave."""

from collections.abc import Collection, Sequence
from dataclasses import astuple, fields
from typing import Any

from pool_server.core.payouts.bank_report import KnownPayment, LineResult, Outcome, Verdict
from pool_server.core.payouts.row_state import RowState, RowStep
from pool_server.ports.banks import Leaving, StoredReport
from pool_server.store.driver import Driver
from pool_server.store.id_blocks import SqlIdBlocks
from pool_server.store.statements import fetch_in, insert_many, write_many

_REPORT_COLUMNS = ", ".join(field.name for field in fields(StoredReport))
_RESULT_COLUMNS = ", ".join(field.name for field in fields(LineResult))
_STEP_COLUMNS = ", ".join(field.name for field in fields(RowStep))
_LEAVING_COLUMNS = ", ".join(field.name for field in fields(Leaving))
_PAYMENT = (
    "SELECT r.payout_id, r.owner_id, r.reference, r.amount_micros, p.currency "
    "FROM payout_rows r JOIN payout_runs p ON p.payout_id = r.payout_id "
    "WHERE p.state = 'exported' AND r.reason = '' AND "
)


def _step(row: Any) -> RowStep:
    values = dict(zip((field.name for field in fields(RowStep)), row, strict=True))
    return RowStep(
        **{**values, "state": RowState(values["state"]), "from_state": RowState(values["from_state"])}
    )


def _result(row: Any) -> LineResult:
    values = dict(zip((field.name for field in fields(LineResult)), row, strict=True))
    return LineResult(
        **{**values, "verdict": Verdict(values["verdict"]), "outcome": Outcome(values["outcome"])}
    )


def _report(row: Any) -> StoredReport:
    return StoredReport(**dict(zip((field.name for field in fields(StoredReport)), row, strict=True)))


def _leaving(row: Any) -> Leaving:
    return Leaving(**dict(zip((field.name for field in fields(Leaving)), row, strict=True)))


class SqlBankRepository:
    """Implements `ports.banks.BankRepository`."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    def report_by_hash(self, sha256_hex: str) -> StoredReport | None:
        row = self._driver.run(
            f"SELECT {_REPORT_COLUMNS} FROM bank_reports WHERE sha256_hex = ?", (sha256_hex,)
        ).one_or_none()
        return None if row is None else _report(row)

    def reports(self, *, limit: int) -> list[StoredReport]:
        rows = self._driver.run(
            f"SELECT {_REPORT_COLUMNS} FROM bank_reports ORDER BY report_id DESC LIMIT ?", (limit,)
        )
        return [_report(row) for row in rows]

    def results(self, report_id: int) -> list[LineResult]:
        rows = self._driver.run(
            f"SELECT {_RESULT_COLUMNS} FROM bank_report_results WHERE report_id = ? ORDER BY result_number",
            (report_id,),
        )
        return [_result(row) for row in rows]

    def add_report(self, report: StoredReport, content: bytes, results: Sequence[LineResult]) -> None:
        write_many(
            self._driver,
            f"INSERT INTO bank_reports ({_REPORT_COLUMNS}, content) VALUES (?,?,?,?,?,?,?,?)",
            [(*astuple(report), content)],
        )
        insert_many(
            self._driver,
            "bank_report_results",
            f"report_id, result_number, {_RESULT_COLUMNS}",
            [
                (
                    report.report_id,
                    number,
                    result.line_number,
                    result.reference,
                    result.payout_id,
                    result.owner_id,
                    result.status,
                    result.verdict.value,
                    result.reason_code,
                    result.reason_text,
                    result.amount_micros,
                    result.outcome.value,
                    result.from_state,
                    result.detail,
                )
                for number, result in enumerate(results, start=1)
            ],
        )

    def add_steps(self, steps: Sequence[RowStep]) -> None:
        step_ids = SqlIdBlocks(self._driver).next_block("payout_step", len(steps))
        insert_many(
            self._driver,
            "payout_steps",
            f"step_id, {_STEP_COLUMNS}",
            [
                (
                    step_id,
                    step.payout_id,
                    step.owner_id,
                    step.state.value,
                    step.from_state.value,
                    step.amount_micros,
                    step.reason_code,
                    step.reason_text,
                    step.report_id,
                    step.at_us,
                )
                for step_id, step in zip(step_ids, steps, strict=True)
            ],
        )

    def steps(self, payout_id: int) -> dict[str, list[RowStep]]:
        rows = self._driver.run(
            f"SELECT {_STEP_COLUMNS} FROM payout_steps WHERE payout_id = ? ORDER BY step_id", (payout_id,)
        )
        by_owner: dict[str, list[RowStep]] = {}
        for step in map(_step, rows):
            by_owner.setdefault(step.owner_id, []).append(step)
        return by_owner

    def steps_of_owner(self, owner_id: str, *, limit: int) -> list[RowStep]:
        rows = self._driver.run(
            f"SELECT {_STEP_COLUMNS} FROM payout_steps WHERE owner_id = ? ORDER BY step_id DESC LIMIT ?",
            (owner_id, limit),
        )
        return [_step(row) for row in rows]

    def step_sums(self) -> dict[tuple[int, RowState, RowState], int]:
        rows = self._driver.run(
            "SELECT payout_id, state, from_state, SUM(amount_micros) FROM payout_steps "
            "GROUP BY payout_id, state, from_state",
            (),
        )
        return {(row[0], RowState(row[1]), RowState(row[2])): int(row[3]) for row in rows}

    def decided_counts(self) -> dict[int, int]:
        rows = self._driver.run(
            "SELECT payout_id, COUNT(DISTINCT owner_id) FROM payout_steps GROUP BY payout_id", ()
        )
        return {row[0]: int(row[1]) for row in rows}

    def paid_after_all(self) -> set[str]:
        rows = self._driver.run(
            "SELECT DISTINCT r.owner_id FROM bank_report_results r WHERE r.outcome = 'contradicts' "
            "AND r.verdict = 'settled' AND r.from_state = 'rejected' AND NOT EXISTS "
            "(SELECT 1 FROM payout_steps s WHERE s.owner_id = r.owner_id AND s.payout_id > r.payout_id "
            "AND s.state = 'settled')"
        )
        return {row[0] for row in rows}

    def sent_payments(
        self, *, references: Collection[str], payout_ids: Collection[int]
    ) -> list[KnownPayment]:
        rows = {
            row[2]: row
            for row in (
                *fetch_in(self._driver, f"{_PAYMENT} r.reference IN ({{marks}})", sorted(references)),
                *fetch_in(self._driver, f"{_PAYMENT} r.payout_id IN ({{marks}})", sorted(payout_ids)),
            )
        }
        steps = {payout_id: self.steps(payout_id) for payout_id in {row[0] for row in rows.values()}}
        payments = []
        for payout_id, owner_id, reference, amount_micros, currency in rows.values():
            taken = steps[payout_id].get(owner_id, [])
            state = taken[-1].state if taken else RowState.SENT
            if state is not RowState.WITHHELD:
                payments.append(
                    KnownPayment(
                        payout_id=payout_id,
                        owner_id=owner_id,
                        reference=reference,
                        message="",
                        amount_micros=amount_micros,
                        currency=currency,
                        state=state,
                    )
                )
        return payments

    def leaving(self, owner_id: str) -> Leaving | None:
        row = self._driver.run(
            f"SELECT {_LEAVING_COLUMNS} FROM leaving_owners WHERE owner_id = ?", (owner_id,)
        ).one_or_none()
        return None if row is None else _leaving(row)

    def all_leaving(self) -> list[Leaving]:
        rows = self._driver.run(
            f"SELECT {_LEAVING_COLUMNS} FROM leaving_owners ORDER BY asked_at_us DESC, owner_id", ()
        )
        return [_leaving(row) for row in rows]

    def add_leaving(self, leaving: Leaving) -> None:
        write_many(
            self._driver,
            f"INSERT INTO leaving_owners ({_LEAVING_COLUMNS}) VALUES (?,?,?,?,?)",
            [astuple(leaving)],
        )

    def close(self, leaving: Leaving, *, more_micros: int) -> bool:
        result = self._driver.run(
            "UPDATE leaving_owners SET closed_at_us = ?, rounding_micros = rounding_micros + ? "
            "WHERE owner_id = ? AND rounding_micros = ?",
            (leaving.closed_at_us, more_micros, leaving.owner_id, leaving.rounding_micros),
        )
        return result.rowcount == 1

    def open_payments(self, owner_id: str) -> int:
        value = self._driver.run(
            "SELECT COUNT(*) FROM payout_rows r JOIN payout_runs p ON p.payout_id = r.payout_id "
            "WHERE r.owner_id = ? AND r.reason = '' AND p.state IN ('approved', 'exported') AND NOT EXISTS "
            "(SELECT 1 FROM payout_steps s WHERE s.payout_id = r.payout_id AND s.owner_id = r.owner_id)",
            (owner_id,),
        ).scalar_one()
        return int(value)
