"""What became of each payment of a run: its states, the one table of its steps, the run's word for all.

A row's own figures never change. What happens to it after planning is a *step*, written once for ever; its
state follows from the run's state and its steps.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from types import MappingProxyType

from pool_server.core.lifecycle import Lifecycle
from pool_server.core.payouts.model import PayoutRow, PayoutRun, PayoutState


@unique
class RowState(StrEnum):
    """Where one owner's payment is."""

    PLANNED = "planned"
    """Nothing is booked."""
    WITHHELD = "withheld"
    """Not paid in this run: the owner changed the payout details after planning. It stays available."""
    CANCELLED = "cancelled"
    """Its run was dropped."""
    APPROVED = "approved"
    """The money is in clearing."""
    SENT = "sent"
    """In the bank's file; the bank has not said the last word."""
    SETTLED = "settled"
    """The bank has paid it: the money left clearing for the bank."""
    REJECTED = "rejected"
    """The bank did not take it: the money is available again."""
    RETURNED = "returned"
    """The bank paid and it came back: the money is available again."""


PAYOUT_ROW_LIFECYCLE = Lifecycle(
    name="payout row",
    initial=RowState.PLANNED,
    transitions={
        (RowState.PLANNED, RowState.APPROVED): "another operator approves its run",
        (
            RowState.PLANNED,
            RowState.WITHHELD,
        ): "its run is approved, and the owner's details are others by now",
        (RowState.PLANNED, RowState.CANCELLED): "its run is cancelled",
        (RowState.APPROVED, RowState.SENT): "its run is exported",
        (RowState.SENT, RowState.SETTLED): "the bank reports that it has paid",
        (RowState.SENT, RowState.REJECTED): "the bank reports that it does not pay",
        (RowState.SENT, RowState.RETURNED): "the bank reports that the money came back",
        (RowState.SETTLED, RowState.RETURNED): "the bank reports that the money came back",
    },
)

#: Steps that are written per row; the others follow from the run's state.
STEPS = (RowState.WITHHELD, RowState.SETTLED, RowState.REJECTED, RowState.RETURNED)
#: States in which the owner was, or may still be, paid by the row.
PAID_STATES = frozenset({RowState.APPROVED, RowState.SENT, RowState.SETTLED})
#: States from which nothing is expected any more (a settled payment may still come back, but need not).
FINAL_STATES = frozenset(
    {RowState.WITHHELD, RowState.CANCELLED, RowState.SETTLED, RowState.REJECTED, RowState.RETURNED}
)

_OF_RUN: Mapping[PayoutState, RowState] = MappingProxyType(
    {
        PayoutState.PLANNED: RowState.PLANNED,
        PayoutState.APPROVED: RowState.APPROVED,
        PayoutState.EXPORTED: RowState.SENT,
        PayoutState.CANCELLED: RowState.CANCELLED,
    }
)

#: Once every payment of an exported run is in a final state, people read this instead of "exported".
RUN_SETTLED = "settled"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowStep:
    """One step of a row, as it is kept."""

    payout_id: int
    owner_id: str
    state: RowState
    """One of `STEPS`."""
    from_state: RowState
    amount_micros: int
    reason_code: str
    """The bank's, for example AC04; empty where there is none."""
    reason_text: str
    report_id: int
    """The bank's report that said so; 0 for steps that no report caused."""
    at_us: int


def row_state(run_state: PayoutState, steps: Sequence[RowStep]) -> RowState:
    """Return where a row is, from its run's state and its steps in order."""
    return steps[-1].state if steps else _OF_RUN[run_state]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How many payments of a run are in which state, and how much money."""

    count: Mapping[RowState, int]
    micros: Mapping[RowState, int]

    def is_complete(self) -> bool:
        """Say whether nothing more is expected."""
        return all(state in FINAL_STATES for state, count in self.count.items() if count)


def progress_of(states: Iterable[tuple[PayoutRow, RowState]]) -> Progress:
    """Sum up the rows that are paid."""
    count: dict[RowState, int] = {}
    micros: dict[RowState, int] = {}
    for row, state in states:
        if not row.reason:
            count[state] = count.get(state, 0) + 1
            micros[state] = micros.get(state, 0) + row.amount_micros
    return Progress(count=MappingProxyType(count), micros=MappingProxyType(micros))


def run_word(run: PayoutRun, progress: Progress) -> str:
    """Return the run's state as people read it: `settled` once nothing of an exported run is open."""
    if run.state is PayoutState.EXPORTED and progress.is_complete():
        return RUN_SETTLED
    return run.state.value
