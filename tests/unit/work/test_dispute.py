"""Bisection over committed units: whatever the lie, a liar is named, in as many rounds as promised."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_protocol.digests import inclusion_proof, leaf_hash, merkle_root, sha256
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import UNITS_PER_TASK_MAX
from pool_server.app.expiry import UNJUDGED_AFTER_US
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.verification.dispute import (
    AskDigests,
    Claim,
    FalseFinal,
    Move,
    Parting,
    SameStates,
    answer_time_us,
    checked_digest,
    commitment_fault,
    next_move,
    rounds_max,
    rule_on,
    time_used_us,
)

HONEST, OTHER = 7, 9


def digests_of(states: Sequence[object]) -> list[bytes]:
    """One digest per state: equal states, equal digests."""
    return [sha256(repr((unit, state)).encode()) for unit, state in enumerate(states)]


def claim_of(attempt_id: int, units: Sequence[bytes], *, final: bytes | None = None) -> Claim:
    """A claim over these digests; `final` is what its outputs really hash to."""
    return Claim(
        attempt_id=attempt_id,
        unit_root=merkle_root(units),
        final_digest=units[-1] if final is None else final,
    )


def play(first: Claim, second: Claim, units: dict[int, list[bytes]]) -> tuple[Move, int]:
    """Answer every question truthfully to one's own commitment; the end, and the rounds it took."""
    unit_count = len(units[first.attempt_id])
    known: dict[tuple[int, int], bytes] = {}
    rounds = 0
    while True:
        move = next_move(first, second, unit_count=unit_count, known=known)
        if not isinstance(move, AskDigests):
            return move, rounds
        rounds += 1
        for attempt_id in move.attempt_ids:
            committed = units[attempt_id]
            known[attempt_id, move.unit_index] = checked_digest(
                committed[move.unit_index],
                claim=first if attempt_id == first.attempt_id else second,
                unit_index=move.unit_index,
                unit_count=unit_count,
                inclusion_path=inclusion_proof(committed, move.unit_index),
            )


def lie_from(unit: int, count: int) -> list[object]:
    """States of a walk that goes wrong in a unit and stays wrong."""
    return [("true", i) if i < unit else ("lie", i) for i in range(count)]


TRUE_64 = digests_of(lie_from(64, 64))


@pytest.mark.parametrize("unit", range(64))
def test_a_lie_in_any_of_64_units_is_found_in_seven_rounds(unit: int) -> None:
    lying = digests_of(lie_from(unit, 64))
    first, second = claim_of(HONEST, TRUE_64), claim_of(OTHER, lying)
    move, rounds = play(first, second, {HONEST: TRUE_64, OTHER: lying})
    assert isinstance(move, Parting)
    assert move.unit_index == unit
    assert move.start_digest == (TRUE_64[unit - 1] if unit else b"")
    assert rounds == rounds_max(64) == 7


@given(count=st.integers(1, 300), data=st.data())
def test_any_liar_at_any_unit_is_found(count: int, data: st.DataObject) -> None:
    unit = data.draw(st.integers(0, count - 1))
    true, lying = digests_of(lie_from(count, count)), digests_of(lie_from(unit, count))
    first, second = claim_of(HONEST, true), claim_of(OTHER, lying)
    move, rounds = play(first, second, {HONEST: true, OTHER: lying})
    assert isinstance(move, Parting)
    assert move.unit_index == unit
    assert rounds <= rounds_max(count)
    ruling = rule_on(move, referee_digest=true[unit], referee_class="", classes={})
    assert (ruling.wrong, ruling.upheld) == ((OTHER,), HONEST)


@given(count=st.integers(2, 120), data=st.data())
def test_lies_that_heal_and_two_liars_still_convict_a_liar(count: int, data: st.DataObject) -> None:
    # Each walk is true or false per unit; an honest step from a state that both share gives the true one.
    flags = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    other_flags = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    first_states: list[object] = [("lie of the first", i) if flag else "true" for i, flag in enumerate(flags)]
    second_states: list[object] = [("lie", i) if flag else "true" for i, flag in enumerate(other_flags)]
    one, two = digests_of(first_states), digests_of(second_states)
    first, second = claim_of(HONEST, one), claim_of(OTHER, two)
    move, rounds = play(first, second, {HONEST: one, OTHER: two})
    assert rounds <= rounds_max(count)
    if one[-1] == two[-1]:
        assert isinstance(move, SameStates)
        return
    assert isinstance(move, Parting)
    unit = move.unit_index
    assert one[unit] != two[unit]
    assert move.start_digest == (b"" if unit == 0 else one[unit - 1])
    assert unit == 0 or one[unit - 1] == two[unit - 1]
    # Whatever the referee finds, one side at least said something else of this unit.
    ruling = rule_on(move, referee_digest=digests_of(["true"] * count)[unit], referee_class="", classes={})
    assert ruling.wrong
    assert not (flags[unit] is False and HONEST in ruling.wrong)
    assert not (other_flags[unit] is False and OTHER in ruling.wrong)


def test_both_lying_in_one_unit_are_both_wrong() -> None:
    one = digests_of(["true", "a", "a"])
    two = digests_of(["true", "b", "b"])
    move, _ = play(claim_of(HONEST, one), claim_of(OTHER, two), {HONEST: one, OTHER: two})
    assert isinstance(move, Parting)
    ruling = rule_on(move, referee_digest=sha256(b"the truth"), referee_class="", classes={})
    assert (ruling.wrong, ruling.upheld) == ((HONEST, OTHER), 0)


def test_a_commitment_to_other_outputs_is_wrong_after_one_round() -> None:
    # It commits to the true walk and hands in something else.
    first, second = claim_of(HONEST, TRUE_64), claim_of(OTHER, TRUE_64, final=sha256(b"made up"))
    move, rounds = play(first, second, {HONEST: TRUE_64, OTHER: TRUE_64})
    assert move == FalseFinal(63, (OTHER,))
    assert rounds == 1


def test_bits_refute_within_a_numeric_class_only() -> None:
    parting = Parting(3, sha256(b"start"), ((HONEST, sha256(b"a")), (OTHER, sha256(b"b"))))
    truth = sha256(b"a")
    same = rule_on(parting, referee_digest=truth, referee_class="x", classes={HONEST: "x", OTHER: "x"})
    assert (same.wrong, same.upheld) == ((OTHER,), HONEST)
    across = rule_on(parting, referee_digest=truth, referee_class="x", classes={HONEST: "x", OTHER: "y"})
    assert (across.wrong, across.upheld) == ((), 0)
    unknown = rule_on(parting, referee_digest=truth, referee_class="x", classes={HONEST: "x"})
    assert (unknown.wrong, unknown.upheld) == ((), 0)
    nobody_knows = rule_on(parting, referee_digest=truth, referee_class="", classes={})
    assert (nobody_knows.wrong, nobody_knows.upheld) == ((OTHER,), HONEST)
    neither = rule_on(
        parting, referee_digest=sha256(b"c"), referee_class="x", classes={HONEST: "y", OTHER: "y"}
    )
    assert (neither.wrong, neither.upheld) == ((), 0)


def test_digests_count_only_under_the_signed_root() -> None:
    claim = claim_of(OTHER, TRUE_64)
    path = inclusion_proof(TRUE_64, 5)
    shown = checked_digest(TRUE_64[5], claim=claim, unit_index=5, unit_count=64, inclusion_path=path)
    assert shown == TRUE_64[5]
    for digest, unit, siblings in (
        (sha256(b"another"), 5, path),
        (TRUE_64[5], 6, path),
        (TRUE_64[5], 5, path[:-1]),
        (TRUE_64[5][:16], 5, path),
        (b"", 5, ()),
    ):
        with pytest.raises(PoolError) as refused:
            checked_digest(digest, claim=claim, unit_index=unit, unit_count=64, inclusion_path=siblings)
        assert refused.value.code is ErrorCode.PROOF_INVALID


def test_commitments_must_fit_their_task() -> None:
    final = sha256(b"final")
    root = merkle_root([final])

    def fault(unit_root: bytes, unit_count: int, units_of_task: int) -> str:
        return commitment_fault(
            unit_root=unit_root, unit_count=unit_count, units_of_task=units_of_task, final_digest=final
        )

    assert fault(root, 1, 1) == ""
    assert root == leaf_hash(final)
    assert "commits to its units" in fault(b"", 1, 1)
    assert "64 units" in fault(root, 63, 64)
    assert "64 units" in fault(root, 65, 64)
    assert "handed in" in fault(merkle_root([sha256(b"other")]), 1, 1)
    assert fault(sha256(b"any root"), 64, 64) == ""


def test_a_dispute_needs_a_unit() -> None:
    claim = claim_of(HONEST, TRUE_64)
    with pytest.raises(PoolError) as refused:
        next_move(claim, claim, unit_count=0, known={})
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize(("count", "rounds"), [(1, 1), (2, 2), (3, 3), (64, 7), (65, 8), (65_536, 17)])
def test_rounds(count: int, rounds: int) -> None:
    assert rounds_max(count) == rounds


def test_the_slowest_side_of_the_longest_dispute_is_done_before_its_result_is_given_up() -> None:
    full_us, used_us = WorkPolicy().unit_answer_us, 0
    for _ in range(rounds_max(UNITS_PER_TASK_MAX) + 1):
        used_us += answer_time_us(full_us=full_us, used_us=used_us)
    assert used_us < UNJUDGED_AFTER_US
    assert answer_time_us(full_us=full_us, used_us=0) == full_us


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)).map(sorted).map(tuple), max_size=8))
def test_questions_that_are_open_together_use_the_time_of_one(spans: list[tuple[int, int]]) -> None:
    ticks = {tick for begin, end in spans for tick in range(begin, end)}
    assert time_used_us(spans) == len(ticks)
