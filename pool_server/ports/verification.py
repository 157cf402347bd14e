"""What verification needs of a store beyond the work's own rows: look-backs, questioned attempts, findings.

The manners are those of `ports.work`: plain rows, in bulk, guarded writes. Times are microseconds since the
epoch, UTC, 0 for "not yet".
"""

from collections.abc import Sequence
from enum import StrEnum, unique
from typing import NamedTuple, Protocol

from pool_server.core.verification.findings import FindingKind, FindingOutcome


@unique
class LookBackState(StrEnum):
    """Where a look-back is."""

    OPENING = "opening"
    """Results are still being questioned; until it is through, no held money is released."""
    CHECKING = "checking"
    """All are questioned, and are computed again by others."""
    DONE = "done"


@unique
class QuestionedState(StrEnum):
    """What became of a questioned attempt."""

    OPEN = "open"
    UPHELD = "upheld"
    WRONG = "wrong"


class LookBackRow(NamedTuple):
    """A vehicle's results are looked at again; or a class's on a program."""

    look_back_id: int
    vehicle_id: str
    """Empty where a class is in doubt."""
    owner_id: str
    cause_attempt_id: int
    """The attempt that was found wrong; the last one, where several were."""
    state: LookBackState
    cursor_receipt_id: int
    """Receipts from this one on were looked at; 0 before the first."""
    questioned_count: int
    wrong_count: int
    opened_at_us: int
    closed_at_us: int
    numeric_class: str = ""
    """The class that was found wrong; empty where a vehicle was."""
    program_sha256: str = ""
    """The program that the class is wrong on."""


class QuestionedRow(NamedTuple):
    """A paid attempt that is checked again, and its money while it is."""

    attempt_id: int
    look_back_id: int
    task_id: int
    vehicle_id: str
    owner_id: str
    receipt_id: int
    net_micros: int
    """What was set aside; 0 where the money had left the held account already, and for donated work."""
    state: QuestionedState
    opened_at_us: int
    closed_at_us: int


class ClassRecheck(NamedTuple):
    """What a look-back at a numeric class means for one vehicle of it."""

    opened_at_us: int
    closed_at_us: int
    """When all of the class was through; 0 before."""
    questioned_count: int
    """Of the vehicle's results."""
    wrong_count: int


class PaidAttempt(NamedTuple):
    """An accepted attempt with its receipt."""

    attempt_id: int
    task_id: int
    vehicle_id: str
    owner_id: str
    odometer_uwu: int
    receipt_id: int
    net_micros: int


class FindingRow(NamedTuple):
    """What a check found of one attempt. Append-only."""

    finding_id: int
    vehicle_id: str
    owner_id: str
    attempt_id: int
    task_id: int
    job_id: int
    task_index: int
    kind: FindingKind
    finding: FindingOutcome
    claimed_digest: bytes
    accepted_digest: bytes
    """Empty where nothing was accepted instead."""
    agreeing_owners: int
    """Owners that agreed on the accepted result."""
    trusted_node: bool
    """Whether a trusted node was among them."""
    unit_index: int
    """The unit in which a dispute found the lie; -1 where none was looked for."""
    clawed_back_micros: int
    numeric_class: str
    program_sha256: str
    found_at_us: int
    lost_uwu: int = 0
    """Clean work that its vehicle's history lost by it; of an appeal: what it was given back."""
    granted_micros: int = 0
    """An appeal that was granted: what the pool paid."""


class QuestionedSums(NamedTuple):
    """A vehicle's questioned attempts in figures."""

    open_count: int
    open_micros: int
    wrong_count: int
    wrong_micros: int


class VerificationRepository(Protocol):
    """Look-backs, questioned attempts and findings: `uow.verification`."""

    def add_findings(self, rows: Sequence[FindingRow]) -> None:
        """Write findings."""
        ...

    def findings_of_vehicle(
        self, vehicle_id: str, *, limit: int, before_finding_id: int = 0
    ) -> list[FindingRow]:
        """A vehicle's findings, newest first, older than one (0: from the newest)."""
        ...

    def findings_of_attempt(self, attempt_id: int) -> list[FindingRow]:
        """What was found of an attempt, oldest first."""
        ...

    def findings_of_task(self, task_id: int) -> list[FindingRow]:
        """What was found of a task's attempts, oldest first."""
        ...

    def granted(self) -> dict[int, int]:
        """What appeals granted, by attempt."""
        ...

    def insert_look_back(self, row: LookBackRow) -> None:
        """Insert a look-back."""
        ...

    def put_look_back(self, row: LookBackRow) -> None:
        """Write a look-back's state, cause, cursor, counters and end."""
        ...

    def running_look_back(self, vehicle_id: str) -> LookBackRow | None:
        """A vehicle's look-back that is not done."""
        ...

    def look_backs_of_vehicle(self, vehicle_id: str) -> list[LookBackRow]:
        """All look-backs of a vehicle, oldest first."""
        ...

    def class_rechecks(self, vehicle_id: str) -> list[ClassRecheck]:
        """What look-backs at its class questioned of a vehicle, oldest first."""
        ...

    def look_back_of_class(self, numeric_class: str, program_sha256: str) -> LookBackRow | None:
        """The look-back of a class on a program, done or not: there is one at most."""
        ...

    def first_opening(self) -> LookBackRow | None:
        """The oldest look-back that still questions results."""
        ...

    def finish_checked(self, *, now_us: int) -> int:
        """CHECKING -> DONE for look-backs without open questions. Rows changed."""
        ...

    def candidates(
        self, *, owner_id: str, vehicle_id: str, after_receipt_id: int, before_receipt_id: int, limit: int
    ) -> list[PaidAttempt]:
        """A vehicle's accepted attempts with receipts in a range (before 0: to the newest), newest first."""
        ...

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
        ...

    def paid(self, task_ids: Sequence[int]) -> list[PaidAttempt]:
        """Accepted attempts of tasks, with their receipts, by attempt."""
        ...

    def question(self, rows: Sequence[QuestionedRow]) -> None:
        """Write open questions; one that was answered before is asked again."""
        ...

    def questioned(self, attempt_ids: Sequence[int]) -> dict[int, QuestionedRow]:
        """Questions about these attempts, answered or not."""
        ...

    def open_of_tasks(self, task_ids: Sequence[int]) -> dict[int, QuestionedRow]:
        """Open questions about attempts of tasks, by attempt."""
        ...

    def opened_before(self, before_us: int, *, limit: int) -> list[QuestionedRow]:
        """Questions that have been open since before a time, by (time, attempt)."""
        ...

    def answer(self, attempt_ids: Sequence[int], *, state: QuestionedState, now_us: int) -> int:
        """Close open questions; WRONG ones are counted in their look-backs. Rows changed."""
        ...

    def sums_of_vehicle(self, vehicle_id: str) -> QuestionedSums:
        """A vehicle's questioned attempts in figures."""
        ...

    def money_elsewhere(self) -> list[QuestionedRow]:
        """Questions whose money is neither held nor released: open and wrong ones with money, by attempt."""
        ...
