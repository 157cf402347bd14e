"""Look-backs, questioned attempts and findings in SQL."""

from collections.abc import Sequence
from typing import Any

from pool_protocol.errors import InvariantError
from pool_server.core.verification.findings import FindingKind, FindingOutcome
from pool_server.ports.verification import (
    ClassRecheck,
    FindingRow,
    LookBackRow,
    LookBackState,
    PaidAttempt,
    QuestionedRow,
    QuestionedState,
    QuestionedSums,
)
from pool_server.store.driver import Driver
from pool_server.store.statements import fetch_in, insert_many, marks, write_many

_FINDING_COLUMNS = ", ".join(FindingRow._fields)
_LOOK_BACK_COLUMNS = ", ".join(LookBackRow._fields)
_QUESTIONED_COLUMNS = ", ".join(QuestionedRow._fields)
_PAID = (
    "SELECT a.attempt_id, a.task_id, a.vehicle_id, a.owner_id, a.odometer_uwu, r.receipt_id, r.net_micros "
)
_QUESTION = (
    f"INSERT INTO questioned_attempts ({_QUESTIONED_COLUMNS}) VALUES ({marks(len(QuestionedRow._fields))}) "
    "ON CONFLICT (attempt_id) DO UPDATE SET look_back_id = excluded.look_back_id, "
    "net_micros = excluded.net_micros, state = excluded.state, opened_at_us = excluded.opened_at_us, "
    "closed_at_us = 0 WHERE questioned_attempts.state = 'upheld'"
)


class SqlVerificationRepository:
    """Implements `ports.verification.VerificationRepository`."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    # --- findings -------------------------------------------------------------------------------

    def add_findings(self, rows: Sequence[FindingRow]) -> None:
        """Write findings."""
        insert_many(
            self._driver,
            "findings",
            _FINDING_COLUMNS,
            [
                (*row[:7], row.kind.value, row.finding.value, *row[9:12], int(row.trusted_node), *row[13:])
                for row in rows
            ],
        )

    def findings_of_vehicle(
        self, vehicle_id: str, *, limit: int, before_finding_id: int = 0
    ) -> list[FindingRow]:
        """A vehicle's findings, newest first, older than one (0: from the newest)."""
        return self._findings(
            "vehicle_id = ? AND (? = 0 OR finding_id < ?) ORDER BY finding_id DESC LIMIT ?",
            (vehicle_id, before_finding_id, before_finding_id, limit),
        )

    def findings_of_attempt(self, attempt_id: int) -> list[FindingRow]:
        """What was found of an attempt, oldest first."""
        return self._findings("attempt_id = ? ORDER BY finding_id", (attempt_id,))

    def findings_of_task(self, task_id: int) -> list[FindingRow]:
        """What was found of a task's attempts, oldest first."""
        return self._findings("task_id = ? ORDER BY finding_id", (task_id,))

    def granted(self) -> dict[int, int]:
        """What appeals granted, by attempt."""
        rows = self._driver.run(
            "SELECT attempt_id, sum(granted_micros) FROM findings WHERE granted_micros <> 0 "
            "GROUP BY attempt_id"
        )
        return {row[0]: row[1] for row in rows}

    def _findings(self, where: str, parameters: tuple[Any, ...]) -> list[FindingRow]:
        rows = self._driver.run(f"SELECT {_FINDING_COLUMNS} FROM findings WHERE {where}", parameters)
        return [
            FindingRow._make(
                (*row[:7], FindingKind(row[7]), FindingOutcome(row[8]), *row[9:12], bool(row[12]), *row[13:])
            )
            for row in rows
        ]

    # --- look-backs -----------------------------------------------------------------------------

    def insert_look_back(self, row: LookBackRow) -> None:
        """Insert a look-back."""
        insert_many(self._driver, "look_backs", _LOOK_BACK_COLUMNS, [(*row[:4], row.state.value, *row[5:])])

    def put_look_back(self, row: LookBackRow) -> None:
        """Write a look-back's state, cause, cursor, counters and end."""
        changed = self._driver.run(
            "UPDATE look_backs SET cause_attempt_id = ?, state = ?, cursor_receipt_id = ?, "
            "questioned_count = ?, wrong_count = ?, closed_at_us = ? WHERE look_back_id = ?",
            (
                row.cause_attempt_id,
                row.state.value,
                row.cursor_receipt_id,
                row.questioned_count,
                row.wrong_count,
                row.closed_at_us,
                row.look_back_id,
            ),
        )
        if changed.rowcount != 1:
            raise InvariantError(f"look-back {row.look_back_id} is not there")

    def running_look_back(self, vehicle_id: str) -> LookBackRow | None:
        """A vehicle's look-back that is not done."""
        rows = self._look_backs("vehicle_id = ? AND state <> 'done' ORDER BY look_back_id", (vehicle_id,))
        return rows[0] if rows else None

    def look_backs_of_vehicle(self, vehicle_id: str) -> list[LookBackRow]:
        """All look-backs of a vehicle, oldest first."""
        return self._look_backs("vehicle_id = ? ORDER BY look_back_id", (vehicle_id,))

    def class_rechecks(self, vehicle_id: str) -> list[ClassRecheck]:
        """What look-backs at its class questioned of a vehicle, oldest first."""
        rows = self._driver.run(
            "SELECT b.opened_at_us, b.closed_at_us, count(*), count(CASE WHEN q.state = 'wrong' THEN 1 END) "
            "FROM questioned_attempts AS q JOIN look_backs AS b ON b.look_back_id = q.look_back_id "
            "WHERE q.vehicle_id = ? AND b.numeric_class > '' GROUP BY b.look_back_id ORDER BY b.look_back_id",
            (vehicle_id,),
        )
        return [ClassRecheck._make(row) for row in rows]

    def look_back_of_class(self, numeric_class: str, program_sha256: str) -> LookBackRow | None:
        """The look-back of a class on a program, done or not: there is one at most."""
        rows = self._look_backs(
            "numeric_class > '' AND numeric_class = ? AND program_sha256 = ?", (numeric_class, program_sha256)
        )
        return rows[0] if rows else None

    def first_opening(self) -> LookBackRow | None:
        """The oldest look-back that still questions results."""
        rows = self._look_backs(
            "state <> 'done' AND state = 'opening' ORDER BY look_back_id LIMIT 1",
        )
        return rows[0] if rows else None

    def finish_checked(self, *, now_us: int) -> int:
        """CHECKING -> DONE for look-backs without open questions. Rows changed."""
        return self._driver.run(
            "UPDATE look_backs SET state = 'done', closed_at_us = ? "
            "WHERE state <> 'done' AND state = 'checking' AND NOT EXISTS "
            "(SELECT 1 FROM questioned_attempts AS q WHERE q.look_back_id = look_backs.look_back_id "
            "AND q.state = 'open')",
            (now_us,),
        ).rowcount

    def _look_backs(self, where: str, parameters: tuple[Any, ...] = ()) -> list[LookBackRow]:
        rows = self._driver.run(f"SELECT {_LOOK_BACK_COLUMNS} FROM look_backs WHERE {where}", parameters)
        return [LookBackRow._make((*row[:4], LookBackState(row[4]), *row[5:])) for row in rows]

    # --- questions ------------------------------------------------------------------------------

    def candidates(
        self, *, owner_id: str, vehicle_id: str, after_receipt_id: int, before_receipt_id: int, limit: int
    ) -> list[PaidAttempt]:
        """A vehicle's accepted attempts with receipts in a range (before 0: to the newest), newest first."""
        rows = self._driver.run(
            f"{_PAID} FROM receipts AS r JOIN attempts AS a ON a.attempt_id = r.attempt_id "
            "WHERE r.owner_id = ? AND r.receipt_id > ? AND (? = 0 OR r.receipt_id < ?) "
            "AND r.vehicle_id = ? AND a.state = 'accepted' ORDER BY r.receipt_id DESC LIMIT ?",
            (owner_id, after_receipt_id, before_receipt_id, before_receipt_id, vehicle_id, limit),
        )
        return [PaidAttempt._make(row) for row in rows]

    def class_candidates(
        self,
        *,
        numeric_class: str,
        program_sha256: str,
        after_receipt_id: int,
        before_receipt_id: int,
        window: int,
        limit: int,
    ) -> tuple[list[PaidAttempt], int]:
        """A class's accepted attempts on a program with receipts in a range, newest first, and how far.

        Looks at no more than `window` receipts before one (0: from the newest), whosesoever they are. Second
        comes the oldest receipt that was looked at.
        """
        before = before_receipt_id
        if before == 0:
            before = 1 + self._driver.run("SELECT coalesce(max(receipt_id), 0) FROM receipts").scalar_one()
        first = max(after_receipt_id + 1, before - window)
        rows = self._driver.run(
            f"{_PAID} FROM receipts AS r JOIN attempts AS a ON a.attempt_id = r.attempt_id "
            "JOIN jobs AS j ON j.job_id = r.job_id "
            "JOIN fleet_vehicles AS v ON v.vehicle_id = a.vehicle_id "
            "WHERE r.receipt_id >= ? AND r.receipt_id < ? AND j.program_sha256 = ? AND a.state = 'accepted' "
            "AND CASE WHEN a.numeric_class = '' THEN v.numeric_class ELSE a.numeric_class END = ? "
            "ORDER BY r.receipt_id DESC LIMIT ?",
            (first, before, program_sha256, numeric_class, limit),
        )
        found = [PaidAttempt._make(row) for row in rows]
        return found, found[-1].receipt_id if len(found) == limit else first

    def paid(self, task_ids: Sequence[int]) -> list[PaidAttempt]:
        """Accepted attempts of tasks, with their receipts, by attempt."""
        rows = fetch_in(
            self._driver,
            f"{_PAID} FROM attempts AS a JOIN receipts AS r ON r.attempt_id = a.attempt_id "
            "WHERE a.counting = 1 AND a.state = 'accepted' AND a.task_id IN ({marks})",
            task_ids,
        )
        return sorted(PaidAttempt._make(row) for row in rows)

    def question(self, rows: Sequence[QuestionedRow]) -> None:
        """Write open questions; one that was answered before is asked again."""
        written = write_many(self._driver, _QUESTION, [(*row[:7], row.state.value, *row[8:]) for row in rows])
        if written != len(rows):
            raise InvariantError("an attempt is questioned that is questioned already, or was wrong")

    def questioned(self, attempt_ids: Sequence[int]) -> dict[int, QuestionedRow]:
        """Questions about these attempts, answered or not."""
        return self._questioned("attempt_id IN ({marks})", attempt_ids)

    def open_of_tasks(self, task_ids: Sequence[int]) -> dict[int, QuestionedRow]:
        """Open questions about attempts of tasks, by attempt."""
        return self._questioned(
            "state = 'open' AND attempt_id IN (SELECT attempt_id FROM attempts "
            "WHERE counting = 1 AND task_id IN ({marks}))",
            task_ids,
        )

    def _questioned(self, where: str, values: Sequence[int]) -> dict[int, QuestionedRow]:
        statement = f"SELECT {_QUESTIONED_COLUMNS} FROM questioned_attempts WHERE {where}"
        return {row[0]: _question_row(row) for row in fetch_in(self._driver, statement, values)}

    def opened_before(self, before_us: int, *, limit: int) -> list[QuestionedRow]:
        """Questions that have been open since before a time, by (time, attempt)."""
        rows = self._driver.run(
            f"SELECT {_QUESTIONED_COLUMNS} FROM questioned_attempts "
            "WHERE state = 'open' AND opened_at_us < ? ORDER BY opened_at_us, attempt_id LIMIT ?",
            (before_us, limit),
        )
        return [_question_row(row) for row in rows]

    def answer(self, attempt_ids: Sequence[int], *, state: QuestionedState, now_us: int) -> int:
        """Close open questions; WRONG ones are counted in their look-backs. Rows changed."""
        changed = write_many(
            self._driver,
            "UPDATE questioned_attempts SET state = ?, closed_at_us = ? "
            "WHERE attempt_id = ? AND state = 'open'",
            [(state.value, now_us, attempt_id) for attempt_id in attempt_ids],
        )
        if state is QuestionedState.WRONG:
            write_many(
                self._driver,
                "UPDATE look_backs SET wrong_count = wrong_count + 1 WHERE look_back_id = "
                "(SELECT look_back_id FROM questioned_attempts WHERE attempt_id = ?)",
                [(attempt_id,) for attempt_id in attempt_ids],
            )
        return changed

    def sums_of_vehicle(self, vehicle_id: str) -> QuestionedSums:
        """A vehicle's questioned attempts in figures."""
        rows = self._driver.run(
            "SELECT state, count(*), sum(net_micros) FROM questioned_attempts "
            "WHERE vehicle_id = ? GROUP BY state",
            (vehicle_id,),
        )
        found = {row[0]: (row[1], row[2]) for row in rows}
        return QuestionedSums(*found.get("open", (0, 0)), *found.get("wrong", (0, 0)))

    def money_elsewhere(self) -> list[QuestionedRow]:
        """Questions whose money is neither held nor released: open and wrong ones with money, by attempt."""
        rows = self._driver.run(
            f"SELECT {_QUESTIONED_COLUMNS} FROM questioned_attempts "
            "WHERE state <> 'upheld' AND net_micros > 0 ORDER BY attempt_id"
        )
        return [_question_row(row) for row in rows]


def _question_row(row: Any) -> QuestionedRow:
    return QuestionedRow._make((*row[:7], QuestionedState(row[7]), *row[8:]))
