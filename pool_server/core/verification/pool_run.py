"""The pool's own run of a task: when it is asked for, and when its word decides. Pure.

Two results that contradict each other are settled by computing the task once more on the pool's own machine,
not by counting owners: owners in league may be the majority of those who happened to be asked. The same run
stands in for auditors where the rule asks for several, since the pool is in league with nobody.

Its result joins the others as a candidate of its own, the reference that they are measured by. But bits only
prove something between machines that round alike, so the pool's word counts under a comparator of bits only
where somebody returned the same, or where all that it contradicts are known to compute like the pool's own
machine. Where it does not count, owners decide as they would without it.
"""

from collections.abc import Sequence
from enum import StrEnum, unique

from pool_server.core.comparison import AgreementGroup
from pool_server.core.lifecycle import Lifecycle
from pool_server.core.verification.classes import UNKNOWN_CLASS, ClassView


@unique
class PoolRunState(StrEnum):
    """Where a run is."""

    WANTED = "wanted"
    DONE = "done"
    FAILED = "failed"


@unique
class PoolRunCause(StrEnum):
    """Why a task is run by the pool."""

    CONTRADICTION = "contradiction"
    """Results of it contradict each other."""
    AUDIT = "audit"
    """An audit was drawn that would have asked several owners."""


POOL_RUN_LIFECYCLE: Lifecycle[PoolRunState] = Lifecycle(
    name="pool run",
    initial=PoolRunState.WANTED,
    transitions={
        (PoolRunState.WANTED, PoolRunState.DONE): "the referee has computed the task",
        (PoolRunState.WANTED, PoolRunState.FAILED): "the task does not run there, or was decided meanwhile",
    },
)


def contradict(groups: Sequence[AgreementGroup], view: ClassView | None) -> bool:
    """Say whether some results are evidence against others: not where only their rounding may differ.

    Args:
        groups: All results of a task.
        view: What is known of their classes; None where nothing is.
    """
    if len(groups) < 2:
        return False
    if view is None or not view.exact:
        return True
    return any(
        view.kin(one, other)
        for index, group in enumerate(groups)
        for rival in groups[index + 1 :]
        for one in view.classes(group)
        for other in view.classes(rival)
    )


def may_speak(
    numeric_class: str,
    groups: Sequence[AgreementGroup],
    view: ClassView | None,
    *,
    backed: bool,
    compares_bits: bool,
) -> bool:
    """Say whether the pool's own result decides between others.

    Args:
        numeric_class: Of the pool's machine when it ran; empty where unknown.
        groups: The others, by whom they agree with.
        view: What is known of their classes; None where nothing is.
        backed: Whether one of them agrees with the pool's.
        compares_bits: Whether the comparator has no tolerance for rounding, or classes may rightly come to
            different ends.
    """
    if view is not None and numeric_class in view.faulty:
        return False
    if backed:
        return True
    if not compares_bits:
        # A class may be wrong as a whole: where classes are known, the pool's must be, to tell them apart.
        return view is None or numeric_class != UNKNOWN_CLASS
    if view is None or numeric_class == UNKNOWN_CLASS:
        return False
    others = {name for group in groups for name in view.classes(group)}
    return all(name != UNKNOWN_CLASS and view.kin(name, numeric_class) for name in others)
