"""Disputes over step programs: which unit of a task two claims part in, and what its re-execution means.

A claim is a result with a commitment: the root over the digests of its state after every unit, signed when
the result came. Two claims that return different outputs started from the same state, so somewhere a unit
begins equal and ends different. Bisection finds one: of n units in at most 1 + ceil(log2 n) rounds, a round
being one question for the same unit to both sides. That unit alone is run again, from the state on which both
agree.

The moves, in this order, all from what is known so far (nothing is remembered between two calls):

1. A commitment that cannot be one of the task (`commitment_fault`) is wrong without a question.
2. Both sides show the digest of the last unit. One that is not the digest of the outputs handed in is wrong:
   either the commitment or the outputs are made up.
3. Bisection between the initial state, which the pool gave, and the last unit.
4. The unit is found: the referee runs it from the agreed state, and `rule_on` says who was wrong.

An answer counts only with its place under the signed root (`checked_digest`). Where a lie heals and comes
again, bisection finds one of the places where the claims part, not always the first: every one of them
convicts a liar. Not decided here: how long an answer may take, what a conviction costs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique

from pool_protocol.digests import DIGEST_BYTES, leaf_hash, verify_inclusion
from pool_protocol.errors import ErrorCode, PoolError
from pool_server.core.lifecycle import Lifecycle, from_each

#: Answers that a side may take the full time for, and the share of it that is left for every one after.
FULL_ANSWERS = 4
LATE_ANSWER_SHARE = 8


@unique
class DisputeState(StrEnum):
    """Where a dispute is."""

    ASKING = "asking"
    REFEREEING = "refereeing"
    CHECKING = "checking"
    DECIDED = "decided"
    NO_BLAME = "no_blame"
    ENDED = "ended"


DISPUTE_LIFECYCLE: Lifecycle[DisputeState] = Lifecycle(
    name="dispute",
    initial=DisputeState.ASKING,
    transitions={
        (DisputeState.ASKING, DisputeState.REFEREEING): "the unit is found and its state is here",
        (
            DisputeState.REFEREEING,
            DisputeState.CHECKING,
        ): "bits prove nothing: claims are checked one by one",
        **from_each(
            (DisputeState.ASKING, DisputeState.REFEREEING, DisputeState.CHECKING),
            DisputeState.DECIDED,
            "one side is wrong or beaten, or both are wrong",
        ),
        **from_each(
            (DisputeState.ASKING, DisputeState.REFEREEING, DisputeState.CHECKING),
            DisputeState.NO_BLAME,
            "the unit cannot be run again, what it returns refutes neither side, or both claims stand",
        ),
        **from_each(
            (DisputeState.ASKING, DisputeState.REFEREEING, DisputeState.CHECKING),
            DisputeState.ENDED,
            "its task is decided or a side is taken out for another reason",
        ),
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One side of a dispute."""

    attempt_id: int
    unit_root: bytes
    """RFC 9162 root over the digests of the units, as signed."""
    final_digest: bytes
    """Digest of the outputs handed in as the state after the last unit, computed by the pool."""


#: Digests that were checked against their claims' roots, by (attempt id, unit).
Known = Mapping[tuple[int, int], bytes]


@dataclass(frozen=True, slots=True)
class AskDigests:
    """The next round: these attempts show their digest of this unit."""

    unit_index: int
    attempt_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FalseFinal:
    """These claims end in another state than the outputs that they handed in: wrong."""

    unit_index: int
    attempt_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SameStates:
    """Both end in the same state: there is nothing to bisect."""


@dataclass(frozen=True, slots=True)
class Parting:
    """The unit is found: it begins in one state and ends in two."""

    unit_index: int
    start_digest: bytes
    """Digest of the state before it, on which both agree; empty for unit 0: the task's initial state."""
    claimed: tuple[tuple[int, bytes], tuple[int, bytes]]
    """What each attempt says that it ends in."""


Move = AskDigests | FalseFinal | SameStates | Parting


def rounds_max(unit_count: int) -> int:
    """Return how many rounds of digest questions a dispute over so many units takes at most."""
    return 1 + (unit_count - 1).bit_length()


def answer_time_us(*, full_us: int, used_us: int) -> int:
    """Return how long a side has for its next answer.

    A clock of its own, as in chess: who always answers in the last minute would otherwise outlast the pool's
    patience with a result that nobody can judge, and get away. Who answers at once keeps the full time.

    Args:
        full_us: For one answer.
        used_us: What this side has taken for its answers so far.
    """
    return max(full_us // LATE_ANSWER_SHARE, min(full_us, FULL_ANSWERS * full_us - used_us))


def time_used_us(spans: Iterable[tuple[int, int]]) -> int:
    """Return how long at least one of several questions was open: (asked, closed) each, in microseconds."""
    used_us = through_us = 0
    for asked_us, closed_us in sorted(spans):
        used_us += max(0, closed_us - max(asked_us, through_us))
        through_us = max(through_us, closed_us)
    return used_us


def next_move(first: Claim, second: Claim, *, unit_count: int, known: Known) -> Move:
    """Return what a dispute needs next; see the module for the order.

    Args:
        first: One side.
        second: The other.
        unit_count: Units of the task, at least 1; both commitments have as many.
        known: What both sides have shown so far. More than was asked for does no harm.

    Raises:
        PoolError: INVALID_ARGUMENT without a unit.
    """
    if unit_count < 1:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, "a dispute is about one unit at least")
    pair = (first.attempt_id, second.attempt_id)
    last = unit_count - 1
    question = _missing(pair, last, known)
    if question is not None:
        return question
    false = tuple(
        claim.attempt_id for claim in (first, second) if known[claim.attempt_id, last] != claim.final_digest
    )
    if false:
        return FalseFinal(last, false)
    if first.final_digest == second.final_digest:
        return SameStates()
    agreed, parted = -1, last
    while parted - agreed > 1:
        middle = (agreed + parted) // 2
        question = _missing(pair, middle, known)
        if question is not None:
            return question
        if known[pair[0], middle] == known[pair[1], middle]:
            agreed = middle
        else:
            parted = middle
    start_digest = b"" if agreed < 0 else known[pair[0], agreed]
    one, other = pair
    return Parting(parted, start_digest, ((one, known[one, parted]), (other, known[other, parted])))


def _missing(pair: tuple[int, int], unit_index: int, known: Known) -> AskDigests | None:
    missing = tuple(attempt_id for attempt_id in pair if (attempt_id, unit_index) not in known)
    return AskDigests(unit_index, missing) if missing else None


def commitment_fault(*, unit_root: bytes, unit_count: int, units_of_task: int, final_digest: bytes) -> str:
    """Say in one sentence why a commitment cannot be one of its task; empty when it can.

    Args:
        unit_root: As handed in.
        unit_count: As handed in.
        units_of_task: Steps of the task over steps of a unit, rounded up.
        final_digest: Digest of the outputs as the state after the last unit.
    """
    if len(unit_root) != DIGEST_BYTES:
        return "a step program's result commits to its units"
    if unit_count != units_of_task:
        return f"the task has {units_of_task} units, the result commits to {unit_count}"
    if unit_count == 1 and unit_root != leaf_hash(final_digest):
        return "the commitment is not to the state that was handed in"
    return ""


def checked_digest(
    digest: bytes, *, claim: Claim, unit_index: int, unit_count: int, inclusion_path: Sequence[bytes]
) -> bytes:
    """Return a digest that a claim shows after checking that it signed it for this unit.

    Raises:
        PoolError: PROOF_INVALID otherwise: the claim is wrong.
    """
    if len(digest) != DIGEST_BYTES:
        raise PoolError(ErrorCode.PROOF_INVALID, f"a digest of {len(digest)} bytes")
    return verify_inclusion(
        digest,
        leaf_index=unit_index,
        leaf_count=unit_count,
        inclusion_path=inclusion_path,
        root=claim.unit_root,
    )


@dataclass(frozen=True, slots=True)
class Ruling:
    """What re-running the unit means."""

    wrong: tuple[int, ...]
    """Attempts that lied about the unit; both where the referee computes like they do and found neither."""
    upheld: int
    """The attempt that told the truth about it; 0 where there is none."""


def rule_on(
    parting: Parting, *, referee_digest: bytes, referee_class: str, classes: Mapping[int, str]
) -> Ruling:
    """Judge by the digest of the state in which the referee's run of the unit ended.

    A digest refutes a claim only where claim and referee must return the same bits: in one numeric class.
    Vehicles whose class is not known are a class of their own. So a claim of another class is never convicted
    by bits; then nobody is to blame, and more opinions are asked for.

    Args:
        parting: The unit, and what both sides claim.
        referee_digest: Of the state after the unit.
        referee_class: The referee's numeric class; empty where unknown.
        classes: Numeric classes of the attempts; empty where unknown.
    """
    matching = [attempt_id for attempt_id, digest in parting.claimed if digest == referee_digest]
    others = [attempt_id for attempt_id, digest in parting.claimed if digest != referee_digest]
    refuted = all(classes.get(attempt_id, "") == referee_class for attempt_id in others)
    if not refuted:
        return Ruling((), 0)
    return Ruling(tuple(others), matching[0] if matching else 0)
