"""Which job is next and how large a lease is: the order is total and nobody waits for ever."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_protocol.limits import LEASE_TASKS_MAX, MINUTE_US, SECOND_US
from pool_server.core.jobs import PriceMode, PriceTerms
from pool_server.core.matching import (
    AVAILABLE_DEFAULT_US,
    WARM_PATIENCE_LEASES,
    JobOffer,
    lease_size,
    order_offers,
    updated_speed,
)


def offer(
    job_id: int,
    *,
    buyer: str = "b",
    program: str = "p",
    last: int = 0,
    buyer_last: int | None = None,
) -> JobOffer:
    return JobOffer(
        job_id=job_id,
        buyer_id=buyer,
        program_sha256=program,
        price_micros_per_wu=1,
        last_lease_id=last,
        buyer_last_lease_id=last if buyer_last is None else buyer_last,
    )


def order(*offers: JobOffer, warm: tuple[str, ...] = (), newest: int = 0) -> list[int]:
    return [one.job_id for one in order_offers(offers, warm_programs=warm, newest_lease_id=newest)]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(order(offer(2), offer(1)), [1, 2], id="the older job"),
        pytest.param(
            order(offer(1, last=5), offer(2, last=4), newest=5), [2, 1], id="the one that waited longer"
        ),
        pytest.param(
            order(offer(1, buyer="x", last=3, buyer_last=9), offer(2, buyer="y", last=8), newest=9),
            [2, 1],
            id="the buyer that waited longer, before its jobs",
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
        buyer_last=st.integers(0, 40),
    ),
    unique_by=lambda one: one.job_id,
    max_size=8,
)


@given(offers, st.randoms(use_true_random=False))
def test_the_order_is_total(unordered: list[JobOffer], chance: object) -> None:
    once = order(*unordered, warm=("q",), newest=40)
    assert order(*reversed(unordered), warm=("q",), newest=40) == once
    assert sorted(once) == sorted(one.job_id for one in unordered)


@given(job_count=st.integers(2, 12), buyer_count=st.integers(1, 4), warm=st.booleans())
def test_every_job_gets_its_turn(job_count: int, buyer_count: int, *, warm: bool) -> None:
    """Play leases; no job that has work is passed over longer than all jobs and the patience together."""
    jobs = {
        job_id: offer(job_id, buyer=f"b{job_id % buyer_count}", program=f"p{job_id}")
        for job_id in range(1, job_count + 1)
    }
    bound = WARM_PATIENCE_LEASES + 2 * job_count * buyer_count
    for lease_id in range(1, 6 * bound):
        chosen = order(*jobs.values(), warm=("p1",) if warm else (), newest=lease_id - 1)[0]
        buyer = jobs[chosen].buyer_id
        jobs[chosen] = replace(jobs[chosen], last_lease_id=lease_id)
        for job_id, one in jobs.items():
            if one.buyer_id == buyer:
                jobs[job_id] = replace(one, buyer_last_lease_id=lease_id)
        assert all(lease_id - one.last_lease_id <= bound for one in jobs.values())


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
    assert terms.price_now(posted) == now
    assert terms.cost_micros_max(1_500_000, quorum=2) == price * 3
