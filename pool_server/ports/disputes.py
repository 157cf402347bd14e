"""What disputes need: a store for pairs, questions and answers, and a referee that runs one unit again.

The manners are those of `ports.work`: plain rows, guarded writes that say whether they changed something,
times in microseconds since the epoch, UTC, 0 for "not yet".
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pool_server.core.jobs import TensorRef
from pool_server.core.verification.dispute import DisputeState


class DisputeRow(NamedTuple):
    """Two results of one step task that disagree."""

    dispute_id: int
    task_id: int
    first_attempt_id: int
    second_attempt_id: int
    first_final_digest: bytes
    """Digest of the first's outputs as the state after the last unit."""
    second_final_digest: bytes
    state: DisputeState
    rounds: int
    """Units asked for so far."""
    unit_index: int
    """Where they part; -1 until it is found."""
    start_digest: bytes
    """Of the state before that unit; empty for unit 0 and until it is found."""
    winner_attempt_id: int
    """0: none, or not decided."""
    referee_digest: bytes
    referee_class: str
    referee_tries: int
    """Runs of the unit that failed by the referee's own fault."""
    reason: str
    opened_at_us: int
    closed_at_us: int


class UnitQueryRow(NamedTuple):
    """A question to one side, and its answer."""

    query_id: int
    task_id: int
    attempt_id: int
    vehicle_id: str
    unit_index: int
    want_state: bool
    """Whether the state is asked for, beside its digest."""
    state: str
    """ "asked", "answered" or "withheld"."""
    digest: bytes
    """Empty without an answer, and where the answer did not stand up."""
    tensors: TensorRef
    """The state, when it was asked for."""
    reason: str
    asked_at_us: int
    expires_at_us: int
    answered_at_us: int


class Commitment(NamedTuple):
    """What an attempt has signed of its units, and where it ran."""

    attempt_id: int
    vehicle_id: str
    unit_root: bytes
    unit_count: int
    numeric_class: str


class DisputeRepository(Protocol):
    """Disputes and their questions: `uow.disputes`."""

    def insert(self, dispute: DisputeRow) -> None:
        """Insert a dispute."""
        ...

    def change(self, dispute: DisputeRow, *, from_state: DisputeState) -> bool:
        """Write a dispute if it is in a state; True when this call did it."""
        ...

    def get(self, dispute_id: int) -> DisputeRow | None:
        """Read a dispute."""
        ...

    def of_task(self, task_id: int) -> list[DisputeRow]:
        """All disputes of a task, oldest first."""
        ...

    def refereeing(self, *, limit: int) -> list[int]:
        """Disputes that wait for the referee, oldest first."""
        ...

    def commitments(self, attempt_ids: Sequence[int]) -> dict[int, Commitment]:
        """What attempts have committed to, by id."""
        ...

    def task_inputs(self, task_id: int) -> TensorRef:
        """A task's inputs, its initial state among them."""
        ...

    def ask(self, queries: Sequence[UnitQueryRow]) -> None:
        """Insert questions."""
        ...

    def queries(self, attempt_ids: Sequence[int]) -> list[UnitQueryRow]:
        """Questions to attempts, oldest first."""
        ...

    def queries_by_id(self, query_ids: Sequence[int]) -> dict[int, UnitQueryRow]:
        """Questions by id."""
        ...

    def open_of_vehicle(self, vehicle_id: str, *, now_us: int, limit: int) -> list[UnitQueryRow]:
        """Questions that a vehicle may still answer, oldest first.

        They are about results that are not judged yet, or about a prefix that others claim.
        """
        ...

    def overdue(self, *, now_us: int, limit: int) -> list[UnitQueryRow]:
        """Questions whose time is over, by (time, id)."""
        ...

    def close_query(self, query: UnitQueryRow) -> bool:
        """Write the end of a question that was open, or a reason why it still is; True when it was open."""
        ...


class UnitOrder(NamedTuple):
    """One unit to run again."""

    program_sha256: str
    constants: TensorRef
    inputs: TensorRef
    """The task's: names behind "state/" are its initial state."""
    start: TensorRef | None
    """The state before the unit; None for the initial one."""
    unit_index: int
    steps: int
    """Of this unit: the last one may be shorter."""


class UnitRun(NamedTuple):
    """What the referee found."""

    state_digest: bytes
    """Of the state after the unit, as a vehicle would have committed to it."""
    numeric_class: str
    """The referee's; empty where unknown."""
    state: bytes = b""
    """The state itself, safetensors: only checks of claims one by one look at it."""


class UnitReferee(Protocol):
    """Runs one unit of an admitted program, sandboxed, on the pool's own machine."""

    async def run_unit(self, order: UnitOrder) -> UnitRun:
        """Run the unit.

        Raises:
            PoolError: the program fails on these inputs, or the referee cannot run it now.
        """
        ...
