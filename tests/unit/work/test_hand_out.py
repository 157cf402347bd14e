"""The window from which fresh tasks are drawn: how wide, that nothing stays behind, and what it tells."""

import bisect
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_server.core.hand_out import HIDDEN_AMONG_TASKS, WINDOW_PER_DELAY, seeks, window_share


def draw(fresh: list[int], size: int, share: float, chance: random.Random) -> list[int]:
    """Take a lease's fresh tasks out of sorted ids, as the store does."""
    sought = seeks(
        first=fresh[0], last=fresh[-1], share=share, chances=[chance.random() for _ in range(size)]
    )
    found = [fresh[bisect.bisect_left(fresh, task_id)] for task_id in sought.task_ids]
    inside = [task_id for task_id in found if task_id < sought.end]
    taken = list(dict.fromkeys([*inside, *fresh[:size]]))[:size]
    for task_id in taken:
        fresh.pop(bisect.bisect_left(fresh, task_id))
    return taken


@given(
    fresh_count=st.integers(0, 10**7),
    under_way=st.integers(-10, 10**6),
)
def test_the_window_covers_small_jobs_and_grows_with_what_is_under_way(
    fresh_count: int, under_way: int
) -> None:
    share = window_share(fresh_count=fresh_count, under_way=under_way)
    assert 0 < share <= 1
    window = WINDOW_PER_DELAY * (HIDDEN_AMONG_TASKS + max(0, under_way))
    assert (share == 1) is (fresh_count <= window)
    if share < 1:
        assert share * fresh_count == pytest.approx(window)
    assert window_share(fresh_count=fresh_count, under_way=under_way + 1) >= share


@given(
    first=st.integers(1, 10**9),
    span=st.integers(1, 10**7),
    share=st.floats(1e-6, 1.0),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_tasks_are_sought_within_the_window_and_no_earlier_than_the_oldest(
    first: int, span: int, share: float, chance: float
) -> None:
    last = first + span - 1
    [sought], end = seeks(first=first, last=last, share=share, chances=[chance])
    assert first <= sought < end <= first + max(1, span * share)
    assert seeks(first=first, last=last, share=share, chances=[0.0]) == ([first], end)


@given(size=st.sampled_from([1, 3, 16, 64]), seed=st.integers(0, 1_000))
def test_who_reads_in_order_waits_for_one_window_and_all_of_it_is_used(size: int, seed: int) -> None:
    # Ids of other jobs lie between: the window is a share of the tasks, not of the ids.
    count, window, apart = 6_000, 500, 3
    chance = random.Random(seed)
    fresh = [1 + apart * number for number in range(count)]
    newest, ages = 0, []
    while len(fresh) > window + size:
        front = fresh[0]
        for task_id in draw(fresh, size, window / len(fresh), chance):
            # What lies beyond the window waits for its oldest: nothing is left behind. Towards the job's
            # end the window has holes, and so holds as many tasks on more ids.
            if len(fresh) > 4 * window:
                assert task_id < front + apart * (window * 1.5 + size)
            newest = max(newest, task_id)
            ages.append((newest - task_id) / apart)
    # Old and new alike: a task of the job's middle is as likely to come late as early.
    body = sorted(ages[window * 2 : count // 2])
    assert window * 0.25 < body[len(body) // 2] < window * 0.75
    assert body[len(body) // 10] < window * 0.25
    assert body[-len(body) // 10] > window * 0.6


def test_a_whole_job_is_drawn_from_alike_where_the_window_covers_it() -> None:
    chances = [number / 100 for number in range(100)]
    assert seeks(first=11, last=110, share=1.0, chances=chances) == (
        [11 + int(chance * 100) for chance in chances],
        111,
    )
