"""What answers mean for a claimed prefix: properties of the pure rule, and the bounds of claims."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_server.core.verification.prefix_claim import (
    CLAIMS_PER_TASK_MAX,
    CLAIMS_PER_VEHICLE_MAX,
    CONTRADICTED,
    OTHER_CLASS,
    UNANSWERED,
    Answer,
    AskThese,
    AwaitAnswers,
    PrefixSide,
    Proved,
    Refuted,
    Unproved,
    is_prefix,
    judge_prefix,
    may_claim,
    room_uwu,
)

TRUTH, LIE, OTHER = b"t" * 32, b"l" * 32, b"o" * 32
ENDED = [Answer.SHOWN, Answer.NONE, Answer.FALSE]


def side(
    number: int, digest: bytes = TRUTH, *, answer: Answer = Answer.SHOWN, **changes: object
) -> PrefixSide:
    """One side, of its own owner."""
    made = PrefixSide(
        attempt_id=number,
        owner_id=f"owner_{number}",
        numeric_class="",
        trusted=False,
        answer=answer,
        digest=digest if answer is Answer.SHOWN else b"",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


CLAIM = side(0)


@st.composite
def crowds(draw: st.DrawFn) -> list[PrefixSide]:
    """Witnesses of different owners, whatever they do."""
    return [
        side(
            number,
            draw(st.sampled_from([TRUTH, LIE, OTHER])),
            answer=draw(st.sampled_from(list(Answer))),
            numeric_class=draw(st.sampled_from(["", "a"])),
            trusted=draw(st.booleans()),
        )
        for number in range(1, 1 + draw(st.integers(0, 5)))
    ]


CLAIMS = st.builds(
    lambda digest, answer, name: side(0, digest, answer=answer, numeric_class=name),
    st.sampled_from([TRUTH, LIE]),
    st.sampled_from(list(Answer)),
    st.sampled_from(["", "a"]),
)


@given(claim=CLAIMS, witnesses=crowds())
def test_it_is_proved_only_by_a_witness_and_never_against_one_of_its_class(
    claim: PrefixSide, witnesses: list[PrefixSide]
) -> None:
    move = judge_prefix(claim, witnesses)
    shown = [witness for witness in witnesses if witness.answer is Answer.SHOWN]
    if isinstance(move, Proved):
        assert claim.answer is Answer.SHOWN
        assert move.digest == claim.digest
        assert any(witness.digest == claim.digest for witness in shown)
        assert not [
            witness
            for witness in shown
            if witness.numeric_class == claim.numeric_class and witness.digest != claim.digest
        ]
        assert all(witness.answer in ENDED for witness in witnesses)


@given(claim=CLAIMS, witnesses=crowds())
def test_it_is_wrong_only_by_its_own_hand_by_two_owners_or_by_the_pools_own_node(
    claim: PrefixSide, witnesses: list[PrefixSide]
) -> None:
    move = judge_prefix(claim, witnesses)
    if not isinstance(move, Refuted) or claim.answer is Answer.FALSE:
        return
    against = [
        witness
        for witness in witnesses
        if witness.answer is Answer.SHOWN
        and witness.numeric_class == claim.numeric_class
        and witness.digest == move.witness_digest
    ]
    assert move.witness_digest != claim.digest == move.claimed_digest
    assert len(against) == move.owners
    assert move.owners >= 2 or any(witness.trusted for witness in against)


@given(claim=CLAIMS, witnesses=crowds())
def test_nobody_is_waited_for_who_was_not_asked_and_nobody_is_asked_twice(
    claim: PrefixSide, witnesses: list[PrefixSide]
) -> None:
    sides = [claim, *witnesses]
    move = judge_prefix(claim, witnesses)
    if isinstance(move, AskThese):
        assert set(move.attempt_ids) == {s.attempt_id for s in sides if s.answer is Answer.NOT_ASKED}
    if isinstance(move, AwaitAnswers):
        assert any(s.answer is Answer.ASKED for s in sides)
        assert all(s.answer is not Answer.NOT_ASKED for s in sides)


@given(claim=CLAIMS, witnesses=crowds())
def test_it_always_comes_to_an_end(claim: PrefixSide, witnesses: list[PrefixSide]) -> None:
    """Once everybody is asked and every question is closed, there is a verdict."""

    def closed(testimony: PrefixSide) -> PrefixSide:
        pending = testimony.answer in {Answer.NOT_ASKED, Answer.ASKED}
        return replace(testimony, answer=Answer.NONE) if pending else testimony

    move = judge_prefix(closed(claim), [closed(witness) for witness in witnesses])
    assert isinstance(move, Proved | Refuted | Unproved)


@given(witnesses=crowds(), data=st.data())
def test_the_order_of_witnesses_does_not_matter(witnesses: list[PrefixSide], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(witnesses))
    one, other = judge_prefix(CLAIM, witnesses), judge_prefix(CLAIM, shuffled)
    if isinstance(one, AskThese) and isinstance(other, AskThese):
        assert set(one.attempt_ids) == set(other.attempt_ids)
    else:
        assert one == other


@pytest.mark.parametrize(
    ("witnesses", "reason"),
    [
        ([], UNANSWERED),
        ([side(1, answer=Answer.NONE)], UNANSWERED),
        ([side(1, answer=Answer.FALSE)], UNANSWERED),
        ([side(1, LIE)], CONTRADICTED),
        ([side(1, LIE), side(2, OTHER)], CONTRADICTED),
        ([side(1), side(2, LIE)], CONTRADICTED),
        ([side(1), side(2, LIE), side(3, LIE)], CONTRADICTED),
        ([side(1, LIE, numeric_class="a"), side(2, LIE, numeric_class="a")], OTHER_CLASS),
        ([side(1, LIE, numeric_class="a", trusted=True)], OTHER_CLASS),
        ([side(1, LIE), side(2, LIE, owner_id="owner_1")], CONTRADICTED),
    ],
)
def test_where_nobody_can_tell_nobody_is_blamed(witnesses: list[PrefixSide], reason: str) -> None:
    assert judge_prefix(CLAIM, witnesses) == Unproved(reason)


def test_a_trusted_node_is_waited_for_no_longer_than_it_takes_to_answer() -> None:
    node = side(1, LIE, trusted=True)
    assert judge_prefix(CLAIM, [node, side(2, answer=Answer.ASKED)]) == Refuted(TRUTH, LIE, 1, True)
    untrusted = [side(1, LIE), side(2, LIE), side(3, answer=Answer.ASKED)]
    assert judge_prefix(CLAIM, untrusted) == AwaitAnswers(), "the third may agree with it"


def test_a_digest_of_another_class_that_is_the_same_proves_as_well() -> None:
    assert judge_prefix(CLAIM, [side(1, numeric_class="a")]) == Proved(TRUTH)


@pytest.mark.parametrize(
    ("owners", "open_count", "allowed"),
    [
        ([], 0, True),
        (["owner_1"], 0, True),
        (["owner_0"], 0, False),
        ([f"owner_{n}" for n in range(1, 1 + CLAIMS_PER_TASK_MAX)], 0, False),
        ([], CLAIMS_PER_VEHICLE_MAX, False),
    ],
)
def test_claims_are_bounded(owners: list[str], open_count: int, *, allowed: bool) -> None:
    assert may_claim(owner_id="owner_0", owners_on_task=owners, open_of_vehicle=open_count) is allowed


@given(
    earned=st.lists(st.integers(0, 10**9), max_size=20), prefixes=st.lists(st.integers(1, 10**9), max_size=20)
)
def test_prefixes_are_a_quarter_of_clean_work_at_most(earned: list[int], prefixes: list[int]) -> None:
    paid = 0
    for results, gross in zip(earned, prefixes, strict=False):
        if gross <= room_uwu(clean_uwu=results, prefixes_uwu=paid):
            paid += gross
        assert 4 * paid <= max(earned)


@pytest.mark.parametrize(
    ("root", "units", "expected"),
    [(TRUTH, 1, True), (TRUTH, 7, True), (TRUTH, 8, False), (TRUTH, 0, False), (b"", 3, False)],
)
def test_a_part_is_less_than_the_whole(root: bytes, units: int, *, expected: bool) -> None:
    assert is_prefix(unit_root=root, unit_count=units, units_of_task=8) is expected
    assert not is_prefix(unit_root=root, unit_count=units, units_of_task=0), "map tasks have none"
