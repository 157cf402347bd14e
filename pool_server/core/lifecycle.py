"""One shape for every lifecycle: a StrEnum of states and one table of legal transitions with their causes.

A table answers two questions: may this row go from here to there, and who causes it. The store turns a
transition into one guarded UPDATE whose row count is checked; this module only says which are legal.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from pool_protocol.errors import ErrorCode, InvariantError, PoolError

State = TypeVar("State", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle(Generic[State]):
    """The states of one kind of row and every legal step between them."""

    name: str
    """What lives it: "job", "task", ..."""
    initial: State
    """The state of a new row."""
    transitions: Mapping[tuple[State, State], str]
    """(from, to) -> who causes it, as a short phrase. Everything that is not here is refused."""

    def states(self) -> tuple[State, ...]:
        """All states, in the order they were declared."""
        return tuple(type(self.initial))

    def terminal(self) -> frozenset[State]:
        """States that nothing leaves."""
        left = {source for source, _ in self.transitions}
        return frozenset(state for state in self.states() if state not in left)

    def sources(self, target: State) -> tuple[State, ...]:
        """States from which `target` may be entered: what a guarded UPDATE puts in its WHERE."""
        return tuple(source for source, to in self.transitions if to == target)

    def allows(self, source: State, target: State) -> bool:
        """Say whether the table holds this step."""
        return (source, target) in self.transitions

    def require(self, source: State, target: State, *, what: str) -> State:
        """Return `target` after checking that the step is legal, for a request that asks for it.

        Raises:
            PoolError: INVALID_STATE otherwise; `what` names the row.
        """
        if not self.allows(source, target):
            raise PoolError(
                ErrorCode.INVALID_STATE,
                f"{what} is {source.value} and cannot become {target.value}",
                context={"state": source.value},
            )
        return target

    def check(self, source: State, target: State, *, what: str) -> State:
        """Return `target` after checking that the step is legal, for a step that our own code decided.

        Raises:
            InvariantError: otherwise; `what` names the row.
        """
        if not self.allows(source, target):
            raise InvariantError(f"{self.name} {what}: {source.value} -> {target.value} is no transition")
        return target


def from_each(sources: Iterable[State], target: State, cause: str) -> dict[tuple[State, State], str]:
    """Build the rows of a table that lead from several states into one for the same cause."""
    return {(source, target): cause for source in sources}
