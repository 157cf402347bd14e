"""When the pool's own result of a task is asked for, and when it decides."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_server.core.comparison import AgreementGroup, Candidate
from pool_server.core.verification.classes import UNKNOWN_CLASS, ClassView
from pool_server.core.verification.pool_run import (
    POOL_RUN_LIFECYCLE,
    PoolRunState,
    contradict,
    may_speak,
)

CLASSES = st.sampled_from([UNKNOWN_CLASS, "a", "b", "c"])
#: The classes of the members of each group.
PARTS = st.lists(st.lists(CLASSES, min_size=1, max_size=3), max_size=4)


def situation(parts: list[list[str]], *, exact: bool) -> tuple[list[AgreementGroup], ClassView]:
    """Groups of results, and their classes; equal classes compute alike."""
    numbers = count(1)
    groups, class_of = [], {}
    for index, names in enumerate(parts):
        members = []
        for name in names:
            number = next(numbers)
            class_of[number] = name
            members.append(
                Candidate(attempt_id=number, owner_id=f"owner {number}", output_digest=bytes([index]) * 32)
            )
        groups.append(AgreementGroup(tuple(members)))
    return groups, ClassView(exact=exact, class_of=class_of)


@given(parts=PARTS, exact=st.booleans())
def test_only_results_that_could_be_equal_contradict_each_other(
    *, parts: list[list[str]], exact: bool
) -> None:
    groups, view = situation(parts, exact=exact)
    pairs = [
        (one, other)
        for index, names in enumerate(parts)
        for rivals in parts[index + 1 :]
        for one in names
        for other in rivals
    ]
    evidence = any(not exact or one == other or UNKNOWN_CLASS in {one, other} for one, other in pairs)
    assert contradict(groups, view) is (bool(pairs) and evidence)
    assert contradict(groups, None) is (len(groups) > 1)


@given(parts=PARTS, mine=CLASSES, exact=st.booleans())
def test_bits_that_nobody_shares_convict_only_machines_known_to_be_alike(
    *, parts: list[list[str]], mine: str, exact: bool
) -> None:
    groups, view = situation(parts, exact=exact)
    alone = may_speak(mine, groups, view, backed=False, compares_bits=exact)
    names = {name for group in parts for name in group}
    assert alone is (mine != UNKNOWN_CLASS and (not exact or names <= {mine}))
    assert may_speak(mine, groups, view, backed=True, compares_bits=exact)
    # Where no class is known, tolerances speak for themselves and bits do not.
    assert may_speak(mine, groups, None, backed=False, compares_bits=exact) is not exact


@pytest.mark.parametrize("backed", [False, True])
def test_a_machine_of_a_class_that_is_known_to_be_wrong_has_no_say(*, backed: bool) -> None:
    groups, known = situation([["a"]], exact=False)
    view = ClassView(exact=False, class_of=known.class_of, faulty=frozenset({"z"}))
    assert not may_speak("z", groups, view, backed=backed, compares_bits=False)


def test_a_run_ends_once() -> None:
    assert POOL_RUN_LIFECYCLE.terminal() == {PoolRunState.DONE, PoolRunState.FAILED}
