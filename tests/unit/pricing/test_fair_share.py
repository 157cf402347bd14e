"""At equal bids buyers share by work, within one lease, whatever the leases' sizes and whatever others do."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.core.pricing.fair_share import IDLE_QUEUES_MAX, FairShares, WaitingJob

WORKS = st.integers(1, 1_000)


def job(number: int, buyer: str, bid: int = 20) -> WaitingJob:
    return WaitingJob(number, buyer, bid)


def serve(shares: FairShares, jobs: list[WaitingJob], work: int) -> tuple[FairShares, WaitingJob]:
    """Give the next lease, of `work`, to the first in order."""
    shares = shares.waiting(jobs)
    first = shares.first(jobs)
    assert first == shares.order(jobs)[0]
    return shares.leased(first, work), first


def test_the_higher_bid_goes_first_then_the_buyer_with_less_then_the_older_job() -> None:
    jobs = [job(4, "b"), job(3, "b"), job(2, "a"), job(1, "c", bid=19), job(5, "c", bid=21)]
    shares = FairShares().waiting(jobs).leased(job(2, "a"), 10)
    assert [waiting.job_id for waiting in shares.order(jobs)] == [5, 3, 4, 2, 1]


@given(st.lists(st.tuples(WORKS, WORKS), min_size=1, max_size=60))
def test_two_buyers_with_equal_bids_and_endless_work_differ_by_one_lease_at_most(
    sizes: list[tuple[int, int]],
) -> None:
    """Leases may be of any size, even of sizes that differ between the buyers."""
    jobs, shares, had = [job(1, "a"), job(2, "b")], FairShares(), Counter[str]()
    for of_a, of_b in sizes:
        first = shares.waiting(jobs).order(jobs)[0]
        work = of_a if first.buyer_id == "a" else of_b
        shares, _ = serve(shares, jobs, work)
        had[first.buyer_id] += work
        assert abs(had["a"] - had["b"]) <= 1_000


@given(st.data())
def test_nothing_that_others_do_moves_them_apart(data: st.DataObject) -> None:
    """Others bid more, less and the same; come, leave, return, and give leases back."""
    pair = [job(1, "a"), job(2, "b")]
    others = [job(3, "c", bid=30), job(4, "d", bid=10), job(5, "e"), job(6, "f"), job(7, "c")]
    shares, had = FairShares(), Counter[str]()
    for _ in range(data.draw(st.integers(1, 60))):
        here = [other for other in others if data.draw(st.booleans())]
        shares, first = serve(shares, [*pair, *here], work := data.draw(WORKS))
        had[first.buyer_id] += work
        if first.buyer_id not in "ab" and data.draw(st.booleans()):
            shares = shares.given_back(first, data.draw(st.integers(0, work)))
        assert abs(had["a"] - had["b"]) <= 1_000


def test_a_buyer_with_many_jobs_gets_one_share() -> None:
    jobs, shares, had = [job(n, "many") for n in range(9)] + [job(9, "one")], FairShares(), Counter[str]()
    for _ in range(100):
        shares, first = serve(shares, jobs, 10)
        had[first.buyer_id] += 10
    assert had["many"] == had["one"]


def test_idle_time_saves_up_nothing() -> None:
    shares = FairShares()
    for _ in range(50):
        shares, _ = serve(shares, [job(1, "busy")], 100)
    both, had = [job(1, "busy"), job(2, "late")], Counter[str]()
    for _ in range(20):
        shares, first = serve(shares, both, 100)
        had[first.buyer_id] += 100
    assert had["busy"] == had["late"]


def test_coming_and_going_gains_nothing() -> None:
    both, shares, had = [job(1, "steady"), job(2, "flitting")], FairShares(), Counter[str]()
    for _ in range(40):
        shares, first = serve(shares, both, 100)
        had[first.buyer_id] += 100
        # It leaves after each lease, and returns for the next.
        shares = shares.waiting([job(1, "steady")])
    assert abs(had["steady"] - had["flitting"]) <= 100


def test_work_that_was_not_done_is_given_back() -> None:
    both = [job(1, "a"), job(2, "b")]
    shares, first = serve(FairShares(), both, 100)
    assert (first.buyer_id, shares.lead_uwu("a", bid_micros_per_wu=20)) == ("a", 100)
    shares = shares.given_back(first, 100)
    assert shares.lead_uwu("a", bid_micros_per_wu=20) == 0
    assert shares.order(both)[0].buyer_id == "a"


def test_what_is_given_back_puts_nobody_ahead_of_those_who_wait() -> None:
    """Else a buyer whose leases always end without work would always be next."""
    shares, both = FairShares(), [job(1, "a"), job(2, "b")]
    for _ in range(6):
        shares, _ = serve(shares, both, 100)
    shares = shares.waiting(both).given_back(job(1, "a"), 250).waiting(both)
    assert shares.lead_uwu("b", bid_micros_per_wu=20) == 0
    assert shares.lead_uwu("a", bid_micros_per_wu=20) == 0


def test_what_is_remembered_is_bounded() -> None:
    shares = FairShares()
    for bid in range(IDLE_QUEUES_MAX + 50):
        both = [job(1, "a", bid), job(2, "b", bid)]
        shares, _ = serve(shares, both, 10)
    shares = shares.waiting([])
    assert len(shares.idle) == IDLE_QUEUES_MAX
    assert shares.lead_uwu("a", bid_micros_per_wu=0) == 0
    assert shares.lead_uwu("a", bid_micros_per_wu=IDLE_QUEUES_MAX + 49) == 10


@pytest.mark.parametrize("change", ["leased", "given_back"])
def test_negative_work_is_refused(change: str) -> None:
    with pytest.raises(PoolError) as refused:
        getattr(FairShares(), change)(job(1, "a"), -1)
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT
