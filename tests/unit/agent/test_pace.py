"""How much work is asked for: never nothing to do, never a hoard."""

from car_agent.main.pace import Pace


def wanted(pace: Pace, *, remaining: int = 0, leases: int = 0, available_ms: int = 0) -> int:
    return pace.attempts_wanted(open_leases=leases, remaining=remaining, available_ms=available_ms)


def test_the_first_lease_is_small_and_nothing_is_prefetched_blindly() -> None:
    pace = Pace(attempts_max=100)
    assert wanted(pace) == 4
    assert wanted(pace, remaining=1, leases=1) == 0


def test_leases_are_worth_some_seconds() -> None:
    pace = Pace(attempts_max=100)
    pace.took(1.0)
    assert wanted(pace) == 4
    assert wanted(pace, remaining=1, leases=1) == 4, "the next lease is fetched before this one ends"
    assert wanted(pace, remaining=2, leases=1) == 0


def test_tiny_tasks_come_in_large_leases_and_long_ones_one_by_one() -> None:
    tiny, long = Pace(attempts_max=100), Pace(attempts_max=100)
    tiny.took(0.0001)
    long.took(600.0)
    assert wanted(tiny) == 100
    assert wanted(long) == 1
    assert wanted(tiny, remaining=100, leases=3) == 0


def test_a_lease_is_not_longer_than_the_charge() -> None:
    pace = Pace(attempts_max=100)
    pace.took(0.1)
    assert wanted(pace) == 40
    assert wanted(pace, available_ms=1_000) == 10


def test_the_average_follows() -> None:
    pace = Pace(attempts_max=1_000)
    pace.took(0.01)
    for _ in range(40):
        pace.took(1.0)
    assert wanted(pace) == 4
