"""What becomes of a contradiction: the pool computes the task itself, or the owners who are asked decide.

With the pool's own run a league that contradicts an honest result, or confirms a wrong one, loses as soon as
one honest auditor or the pool looks. Where owners decide, the side that first has as many agreeing owners as
the task needs wins, whoever is right: opinions are asked one after the other, each in league with the
probability f.
"""

from collections.abc import Callable
from enum import StrEnum, unique
from functools import cache
from math import comb


@unique
class Contradictions(StrEnum):
    """Who settles them."""

    POOL = "pool"
    OWNERS = "owners"


@cache
def wins_race(mine: int, theirs: int, needed: int, share: float) -> float:
    """Return how likely the first of two sides is to reach `needed` before the other.

    Args:
        mine: Agreeing owners that it has.
        theirs: Those of the other.
        needed: Agreeing owners that decide.
        share: How likely each further owner is to join the first side.
    """
    if mine >= needed:
        return 1.0
    if theirs >= needed:
        return 0.0
    won = share * wins_race(mine + 1, theirs, needed, share)
    return won + (1 - share) * wins_race(mine, theirs + 1, needed, share)


def _over_auditors(auditors: int, share: float, outcome: Callable[[int], float]) -> float:
    """Average over how many of the auditors are in league."""
    return sum(
        comb(auditors, count) * share**count * (1 - share) ** (auditors - count) * outcome(count)
        for count in range(auditors + 1)
    )


def lie_passes(auditors: int, share: float, settled: Contradictions) -> float:
    """Return how likely a wrong result passes its audit, when a share of the auditors confirms it."""
    if settled is Contradictions.POOL:
        return float(share**auditors)
    needed = 1 + auditors
    return _over_auditors(
        auditors, share, lambda count: wins_race(1 + count, auditors - count, needed, share)
    )


def truth_fails(auditors: int, share: float, settled: Contradictions) -> float:
    """Return how likely a right result is rejected, when a share of the auditors contradicts it."""
    if settled is Contradictions.POOL:
        return 0.0
    needed = 1 + auditors
    return _over_auditors(
        auditors, share, lambda count: wins_race(count, 1 + auditors - count, needed, share)
    )
