"""What a map promises whatever the pool does: order, completeness, a bounded window, and a defined end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chargepool
from chargepool._session import News
from chargepool._values import Progress
from pool_protocol import tensors
from pool_protocol.digests import output_digest
from pool_protocol.v1 import market_service_pb2
from tests.unit.sdk.scripted_session import ScriptedSession, scripted_map

COUNTS = st.integers(0, 60)
WINDOWS = st.integers(1, 20)
BATCHES = st.integers(1, 10)
SEEDS = st.integers(0, 2**32)


class Source:
    """Inputs that know how far they were pulled."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.pulled = 0

    def __iter__(self) -> Iterator[Any]:
        for number in range(self.count):
            self.pulled += 1
            yield np.float32(number)


@given(count=COUNTS, window=WINDOWS, batch_size=BATCHES, seed=SEEDS, ordered=st.booleans())
def test_every_input_comes_back_once_and_the_window_is_never_passed(
    *, count: int, window: int, batch_size: int, seed: int, ordered: bool
) -> None:
    source, session = Source(count), ScriptedSession(seed=seed)
    results = scripted_map(session, iter(source), window=window, batch_size=batch_size, ordered=ordered)
    indexes: list[int] = []
    for result in results:
        assert result.value == np.float32(result.index) / 2
        # The one in hand was counted as handed out.
        assert source.pulled - (len(indexes) + 1) <= window
        indexes.append(result.index)
    assert indexes == list(range(count)) if ordered else sorted(indexes) == list(range(count))
    assert all(size <= batch_size for size in session.batches)
    assert session.calls == ["close"]


@given(window=WINDOWS, batch_size=BATCHES)
def test_nothing_is_pulled_before_a_result_is_asked_for(window: int, batch_size: int) -> None:
    source = Source(100)
    results = scripted_map(ScriptedSession(), iter(source), window=window, batch_size=batch_size)
    assert source.pulled == 0
    next(results)
    assert source.pulled <= window


@given(
    count=st.integers(1, 40),
    failing=st.frozensets(st.integers(0, 39), min_size=1),
    seed=SEEDS,
    ordered=st.booleans(),
)
def test_failed_tasks_are_returned_or_left_out_as_asked(
    *, count: int, failing: frozenset[int], seed: int, ordered: bool
) -> None:
    failed = {index for index in failing if index < count}
    session = ScriptedSession(seed=seed, failing=failing)
    returned = list(scripted_map(session, iter(Source(count)), ordered=ordered, on_error="return"))
    assert {result.index for result in returned if not result.ok} == failed
    assert len(returned) == count
    for result in returned:
        if result.index in failed:
            with pytest.raises(chargepool.TaskFailed):
                _ = result.value
    session = ScriptedSession(seed=seed, failing=failing)
    results = scripted_map(session, iter(Source(count)), ordered=ordered, on_error="skip")
    assert {result.index for result in results} == set(range(count)) - failed
    assert results.skipped == len(failed)


@given(bad=st.integers(0, 19), seed=SEEDS)
def test_a_failed_task_stops_the_map_and_the_spending(bad: int, seed: int) -> None:
    session = ScriptedSession(seed=seed, failing=frozenset({bad}))
    results = scripted_map(session, iter(Source(20)), on_error="raise")
    before: list[int] = []
    with pytest.raises(chargepool.TaskFailed) as caught:
        before.extend(result.index for result in results)
    assert caught.value.index == bad
    assert session.state == "cancelled"
    assert "was cancelled" in caught.value.__notes__[0]
    assert list(results) == []


@given(after=st.integers(0, 30), seed=SEEDS, ordered=st.booleans())
def test_a_job_cancelled_from_elsewhere_ends_with_an_outcome_for_every_input_pulled(
    *, after: int, seed: int, ordered: bool
) -> None:
    source, session = Source(30), ScriptedSession(seed=seed, cancel_after=after)
    results = list(scripted_map(session, iter(source), ordered=ordered, on_error="return"))
    assert sorted(result.index for result in results) == list(range(source.pulled))
    for result in results:
        if not result.ok:
            assert isinstance(result.error, chargepool.JobCancelled)


def test_ctrl_c_leaves_the_job_and_says_how_to_come_back() -> None:
    session = ScriptedSession()

    def interrupted() -> Iterator[Any]:
        yield np.float32(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        list(scripted_map(session, interrupted()))
    assert session.state == "open"
    assert "chargepool job resume job_1" in caught.value.__notes__[0]
    assert session.task_count == 1, "what was pulled before Ctrl-C is in the pool"


def test_ctrl_c_cancels_when_asked_to() -> None:
    session = ScriptedSession()

    def interrupted() -> Iterator[Any]:
        yield np.float32(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(scripted_map(session, interrupted(), on_interrupt="cancel"))
    assert session.calls == ["cancel"]


def test_an_error_in_the_loop_s_body_leaves_the_job_too() -> None:
    session = ScriptedSession()

    def handle_first() -> None:
        with scripted_map(session, iter(Source(20))) as results:
            next(results)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        handle_first()
    assert session.state == "open"
    assert "resume" in caught.value.__notes__[0]


def test_leaving_the_loop_early_cancels_what_is_left() -> None:
    session = ScriptedSession()
    with scripted_map(session, iter(Source(20))) as results:
        for result in results:
            if result.index == 3:
                break
    assert session.calls[-1] == "cancel"
    assert list(results) == []


def test_an_input_that_does_not_fit_is_named_and_those_before_it_are_kept() -> None:
    session = ScriptedSession()
    items = iter([np.float32(0), np.float32(1), np.zeros(3, np.float32)])
    with pytest.raises(chargepool.InputRefused, match=r"input 2, value has shape \[3\]"):
        list(scripted_map(session, items))
    assert session.task_count == 2


def test_progress_tells_what_was_sent_and_ends_over() -> None:
    told: list[Progress] = []
    count = len(list(scripted_map(ScriptedSession(seed=4), iter(Source(25)), progress=told.append)))
    assert count == 25
    assert told[-1].is_over
    assert (told[-1].tasks_total, told[-1].tasks_sent, told[-1].tasks_accepted) == (25, 25, 25)
    assert [progress.tasks_accepted for progress in told] == sorted(
        progress.tasks_accepted for progress in told
    )


def test_a_result_that_is_replaced_before_it_is_handed_out_is_the_new_one() -> None:
    """A look-back may decide a task again: the same index comes twice, under two cursors."""

    class TwiceDecided(ScriptedSession):
        def watch(
            self, job_id: str, *, after_cursor: int = 0, include_results: bool = True
        ) -> Iterator[News]:
            for news in super().watch(job_id, after_cursor=after_cursor):
                spoilt = []
                for task in news.decided:
                    wrong = market_service_pb2.TaskResult()
                    wrong.CopyFrom(task)
                    outputs = {"value": np.asarray(-1, np.float32)}
                    wrong.outputs.inline = tensors.encode(outputs)
                    wrong.output_digest = output_digest(outputs)
                    right = market_service_pb2.TaskResult()
                    right.CopyFrom(task)
                    right.replaced_count = 1
                    spoilt += [wrong, right]
                yield News(decided=tuple(spoilt), cursor=news.cursor, status=news.status)

    results = list(scripted_map(TwiceDecided(seed=2), iter(Source(12))))
    assert [result.index for result in results] == list(range(12))
    assert [float(result.value) for result in results] == [index / 2 for index in range(12)]
    assert {result.replaced_count for result in results} == {1}
