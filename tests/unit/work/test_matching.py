"""Which job is next and how large a lease is: the order is total and nobody waits for ever."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_protocol.limits import LEASE_TASKS_MAX, MINUTE_US, SECOND_US
from pool_server.core.jobs import PriceMode, PriceTerms
from pool_server.core.matching import (
    AVAILABLE_DEFAULT_US,
    WARM_PATIENCE_LEASES,
    BuyerShare,
    JobOffer,
    as_waiting,
    lease_size,
    order_offers,
    shares_of,
    updated_speed,
)


def offer(
    job_id: int,
    *,
    buyer: str = "b",
    program: str = "p",
    last: int = 0,
    tag: int = 0,
    lease: int = 10,
    deadline: int = 0,
) -> JobOffer:
    return JobOffer(
        job_id=job_id,
        buyer_id=buyer,
        program_sha256=program,
        bid_micros_per_wu=1,
        price_micros_per_wu=1,
        last_lease_id=last,
        deadline_us=deadline,
        share=BuyerShare(tag_uwu=tag, lease_uwu=lease),
    )


def order(*offers: JobOffer, warm: tuple[str, ...] = (), newest: int = 0) -> list[int]:
    shares = shares_of(offers, virtual_uwu=0)
    ordered = order_offers(offers, shares=shares, warm_programs=warm, newest_lease_id=newest)
    return [one.job_id for one in ordered]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(order(offer(2), offer(1)), [1, 2], id="the older job"),
        pytest.param(
            order(offer(1, last=5), offer(2, last=4), newest=5), [2, 1], id="the one that waited longer"
        ),
        pytest.param(
            order(offer(1, buyer="x", last=3, tag=11), offer(2, buyer="y", last=8, tag=10), newest=9),
            [2, 1],
            id="the buyer that had less work, before its jobs",
        ),
        pytest.param(
            order(offer(1), offer(2, deadline=9), offer(3, deadline=8)),
            [3, 2, 1],
            id="of a buyer the nearest deadline",
        ),
        pytest.param(
            order(offer(1, buyer="x", tag=1, deadline=8), offer(2, buyer="y", tag=0)),
            [2, 1],
            id="whatever deadlines others have",
        ),
        pytest.param(
            order(
                offer(1, last=0),
                offer(2, last=WARM_PATIENCE_LEASES, deadline=9),
                newest=WARM_PATIENCE_LEASES + 1,
            ),
            [1, 2],
            id="a deadline, but not for ever",
        ),
        pytest.param(
            order(offer(1), offer(2, program="w", last=3), warm=("w",), newest=3),
            [2, 1],
            id="the warm program",
        ),
        pytest.param(
            order(
                offer(1),
                offer(2, program="w", last=WARM_PATIENCE_LEASES + 1),
                warm=("w",),
                newest=WARM_PATIENCE_LEASES + 1,
            ),
            [1, 2],
            id="but not for ever",
        ),
        pytest.param(
            order(
                offer(1, buyer="x", program="w", tag=WARM_PATIENCE_LEASES * 10),
                offer(2, buyer="y", tag=0),
                warm=("w",),
            ),
            [1, 2],
            id="a warm program of a buyer that leads by little",
        ),
        pytest.param(
            order(
                offer(1, buyer="x", program="w", tag=WARM_PATIENCE_LEASES * 10 + 1),
                offer(2, buyer="y", tag=0),
                warm=("w",),
            ),
            [2, 1],
            id="not of one that leads by more",
        ),
    ],
)
def test_jobs_are_offered_in_this_order(found: list[int], expected: list[int]) -> None:
    assert found == expected


offers = st.lists(
    st.builds(
        offer,
        st.integers(1, 50),
        buyer=st.sampled_from("xyz"),
        program=st.sampled_from("pqr"),
        last=st.integers(0, 40),
        deadline=st.integers(0, 3),
    ),
    unique_by=lambda one: one.job_id,
    max_size=8,
)


@given(offers, st.randoms(use_true_random=False))
def test_the_order_is_total(unordered: list[JobOffer], chance: object) -> None:
    once = order(*unordered, warm=("q",), newest=40)
    assert order(*reversed(unordered), warm=("q",), newest=40) == once
    assert sorted(once) == sorted(one.job_id for one in unordered)


@dataclass
class Queue:
    """Leases of jobs that never end, as the pool counts them."""

    jobs: dict[int, JobOffer]
    warm: tuple[str, ...] = ()
    virtual_uwu: int = 0
    newest: int = 0
    served_uwu: Counter[str] = field(default_factory=Counter)

    def lease(self, work_uwu: Callable[[JobOffer], int] = lambda one: 10) -> JobOffer:
        offers = list(self.jobs.values())
        shares = shares_of(offers, virtual_uwu=self.virtual_uwu)
        chosen = order_offers(offers, shares=shares, warm_programs=self.warm, newest_lease_id=self.newest)[0]
        work = work_uwu(chosen)
        [queue] = shares.leased(as_waiting(chosen), work).busy.values()
        self.virtual_uwu, self.newest = queue.virtual_uwu, self.newest + 1
        self.served_uwu[chosen.buyer_id] += work
        share = BuyerShare(tag_uwu=queue.tag_uwu(chosen.buyer_id), lease_uwu=work)
        self.jobs[chosen.job_id] = replace(chosen, last_lease_id=self.newest)
        for job_id, one in self.jobs.items():
            if one.buyer_id == chosen.buyer_id:
                self.jobs[job_id] = replace(one, share=share)
        return chosen


@given(job_count=st.integers(2, 12), buyer_count=st.integers(1, 4), warm=st.booleans())
def test_every_job_gets_its_turn(job_count: int, buyer_count: int, *, warm: bool) -> None:
    """Play leases; no job that has work is passed over longer than all jobs and the patience together."""
    jobs = {
        job_id: offer(job_id, buyer=f"b{job_id % buyer_count}", program=f"p{job_id}")
        for job_id in range(1, job_count + 1)
    }
    queue = Queue(jobs, warm=("p1",) if warm else ())
    bound = (WARM_PATIENCE_LEASES + 2 * job_count) * buyer_count
    for lease_id in range(1, 6 * bound):
        queue.lease()
        assert all(lease_id - one.last_lease_id <= bound for one in queue.jobs.values())


@given(
    many=st.integers(1, 20),
    large=st.integers(1, 50),
    warm=st.sampled_from(["", "p1", "p2"]),
    leases=st.integers(1, 400),
)
def test_two_buyers_of_endless_jobs_get_equal_work(many: int, large: int, warm: str, leases: int) -> None:
    """However many jobs one of them has, whatever the sizes of their leases, and whose program is warm."""
    jobs = {1: offer(1, buyer="x", program="p1", lease=0)} | {
        number: offer(number, buyer="y", program=f"p{number}", lease=0) for number in range(2, many + 2)
    }
    queue = Queue(jobs, warm=(warm,) if warm else ())
    for _ in range(leases):
        queue.lease(lambda one: 10 if one.buyer_id == "x" else large)
    ahead = abs(queue.served_uwu["x"] - queue.served_uwu["y"])
    bound = (WARM_PATIENCE_LEASES + 1) * max(10, large) if warm else max(10, large)
    assert ahead <= bound


def test_who_comes_back_neither_catches_up_nor_starts_ahead() -> None:
    x, y = offer(1, buyer="x", lease=0), offer(2, buyer="y", lease=0)
    queue = Queue({1: x})
    for _ in range(50):
        queue.lease()
    queue.jobs[2] = y
    turns = [queue.lease().buyer_id for _ in range(40)]
    assert abs(turns.count("x") - turns.count("y")) <= 1
    assert set(turns[:3]) == {"x", "y"}


def size(
    *,
    attempts_max: int = 100,
    ready: int = 10_000,
    vehicles: int = 1,
    work_uwu: int = 1_000_000,
    speed: int = 0,
    available_us: int = 0,
    timeout_us: int = 10 * MINUTE_US,
) -> int:
    return lease_size(
        attempts_max=attempts_max,
        ready_count=ready,
        active_vehicles=vehicles,
        work_uwu=work_uwu,
        speed_uwu_per_s=speed,
        available_us=available_us,
        lease_timeout_us=timeout_us,
    )


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(size(), 100, id="what is asked for"),
        pytest.param(size(attempts_max=10**6), LEASE_TASKS_MAX, id="the pool's limit"),
        pytest.param(size(ready=12, vehicles=5), 3, id="an even share, rounded up"),
        pytest.param(size(ready=3, vehicles=500), 1, id="at least one"),
        pytest.param(
            size(speed=1_000_000),
            AVAILABLE_DEFAULT_US // SECOND_US,
            id="a minute of work when time is unknown",
        ),
        pytest.param(size(speed=1_000_000, available_us=7 * SECOND_US), 7, id="the time it has"),
        pytest.param(size(speed=1_000_000, available_us=500_000), 1, id="one even when time is short"),
        pytest.param(
            size(speed=1_000_000, available_us=MINUTE_US, timeout_us=40 * SECOND_US),
            20,
            id="half of the lease's life",
        ),
    ],
)
def test_a_lease_is_bounded(found: int, expected: int) -> None:
    assert found == expected


def test_speed_follows_what_is_measured() -> None:
    first = updated_speed(0, work_uwu=1_000_000, run_time_us=SECOND_US)
    assert first == 1_000_000
    assert updated_speed(first, work_uwu=1_000_000, run_time_us=SECOND_US // 2) == 1_250_000
    assert updated_speed(first, work_uwu=1_000_000, run_time_us=0) == first


@pytest.mark.parametrize(
    ("mode", "price", "posted", "now"),
    [
        (PriceMode.SPOT, 100, 90, 90),
        (PriceMode.SPOT, 100, 100, 100),
        (PriceMode.SPOT, 100, 101, None),
        (PriceMode.QUOTE, 100, 900, 100),
        (PriceMode.DONATE, 0, 900, 0),
    ],
)
def test_price_terms(mode: PriceMode, price: int, posted: int, now: int | None) -> None:
    terms = PriceTerms(mode=mode, price_micros_per_wu=price)
    assert (
        terms.price_now(posted, bid_micros_per_wu=terms.bid_now(left_uwu=0, speed_uwu_per_s=0, now_us=0))
        == now
    )
    assert terms.cost_micros_max(1_500_000, quorum=2) == price * 3
