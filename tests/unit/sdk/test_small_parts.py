"""The progress line, what is remembered of jobs, comparators, and the way of inputs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

import chargepool
from chargepool._comparators import ULPS_MAX, Comparator, as_comparator
from chargepool._errors import PoolUnreachable
from chargepool._feed import TaskFeed
from chargepool._progress import ProgressLine, line_of, progress_callback
from chargepool._records import Records
from chargepool._session import Session
from chargepool._values import Progress, quote_of_wire, status_of_wire
from pool_protocol import ulps
from pool_protocol.errors import PoolError
from pool_protocol.v1 import common_pb2, market_service_pb2
from pool_protocol.waiting import waiting_text
from tests.support.clock import ManualClock
from tests.unit.sdk.scripted_session import JOB_ID, ScriptedSession, program


def progress(accepted: int, *, total: int | None = 10, is_over: bool = False) -> Progress:
    return Progress(
        job_id="job_3",
        tasks_total=total,
        tasks_sent=10,
        tasks_accepted=accepted,
        tasks_failed=1,
        tasks_running=2,
        rejected_count=0,
        spent_micros=1_500,
        currency="EUR",
        is_over=is_over,
    )


def test_the_line_says_how_far_and_how_much() -> None:
    assert line_of(progress(4)) == (
        "job_3 [############............] 5/10 tasks, 2 running, 1 failed, 0.001500 EUR"
    )
    assert line_of(progress(4, total=None)).startswith("job_3 5 of 10 tasks sent")


def test_the_line_says_why_nothing_goes_on_and_at_once() -> None:
    clock, stream = ManualClock(), io.StringIO()
    line = ProgressLine(stream, clock=clock)
    line(progress(4))
    why = waiting_text("WAITING_FOR_ANOTHER_OWNER", 1_000)
    assert why == "1000 results wait to be checked by another owner's car; none is connected"
    line(replace(progress(4), waiting=why))
    assert stream.getvalue().endswith(f"0.001500 EUR, {why}")
    assert waiting_text("", 0) == waiting_text("A_NEWER_REASON", 1) == ""


@pytest.mark.parametrize(
    ("level", "owners_now", "warned"),
    [("full", 0, True), ("standard", 1, True), ("full", 2, False), ("none", 1, False), ("full", None, False)],
)
def test_a_quote_warns_when_nobody_could_check(level: str, owners_now: int | None, *, warned: bool) -> None:
    answer = market_service_pb2.GetQuoteResponse(owners_now=owners_now)
    offer = quote_of_wire(answer, program_sha256="", tasks=1, level=level, steps=0)
    assert bool(offer.warning) is warned


def test_a_status_says_why_the_job_waits() -> None:
    view = market_service_pb2.JobView(
        state=market_service_pb2.JOB_STATE_CLOSING,
        level=common_pb2.VERIFICATION_LEVEL_FULL,
        waiting_reason="WAITING_FOR_ANOTHER_OWNER",
        waiting_count=1,
    )
    assert status_of_wire(view).waiting.startswith("1 result waits to be checked by another owner's car")


def test_it_is_drawn_ten_times_a_second_and_always_at_the_end() -> None:
    clock, stream = ManualClock(), io.StringIO()
    line = ProgressLine(stream, clock=clock)
    for accepted in range(3):
        line(progress(accepted))
    assert stream.getvalue().count("\r") == 1
    clock.advance(seconds=0.1)
    line(progress(3))
    assert stream.getvalue().count("\r") == 2
    line(progress(9, is_over=True))
    assert stream.getvalue().endswith("\n")
    line(progress(9, is_over=True))
    assert stream.getvalue().count("\n") == 1


def test_there_is_no_line_where_no_terminal_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert progress_callback(True) is None
    assert progress_callback(None) is None
    assert progress_callback(print) is print


def test_a_program_is_remembered_so_that_outputs_can_be_read(tmp_path: Path) -> None:
    Records(tmp_path).remember_program(program())
    found = Records(tmp_path).program(program().program_id)
    assert found == program()
    assert found.local(4) == 2


def test_a_damaged_or_foreign_record_is_none(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.remember_program(program())
    (path,) = tmp_path.glob("programs/*.artifact")
    path.write_bytes(path.read_bytes() + b"x")
    assert records.program(program().program_id) is None
    assert records.program("b" * 64) is None
    assert records.program("../../etc/passwd") is None


def test_jobs_of_two_pools_do_not_mix(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.remember_job("pool_a", "job_1", {"name": "first"})
    records.remember_job("pool_a", "job_1", {"source": "x.py:f"})
    assert records.job("pool_a", "job_1") == {"name": "first", "source": "x.py:f"}
    assert records.job("pool_b", "job_1") == {}
    with pytest.raises(PoolError):
        records.remember_job("pool_a", "../job_1", {})


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    records = Records(tmp_path / "file")
    records.remember_program(program())
    assert records.program(program().program_id) is None


def test_comparators_say_what_they_are() -> None:
    assert chargepool.exact().to_wire().kind == common_pb2.COMPARATOR_KIND_EXACT
    wire = chargepool.close(rtol=1e-3, atol=0).to_wire()
    assert (wire.kind, wire.rtol, wire.atol) == (common_pb2.COMPARATOR_KIND_CLOSE, 1e-3, 0)
    assert as_comparator("exact") == chargepool.exact()


@pytest.mark.parametrize(("rtol", "atol"), [(-1, 0), (0, 0), (float("inf"), 0), (0, float("nan"))])
def test_tolerances_that_mean_nothing_are_refused(rtol: float, atol: float) -> None:
    with pytest.raises(chargepool.ProgramRefused):
        chargepool.close(rtol=rtol, atol=atol)


def test_every_comparator_reaches_the_wire() -> None:
    assert chargepool.ulp(4).to_wire() == common_pb2.Comparator(kind=common_pb2.COMPARATOR_KIND_ULP, ulps=4)
    assert chargepool.unordered().to_wire() == common_pb2.Comparator(kind=common_pb2.COMPARATOR_KIND_SET)
    wire = as_comparator({"loss": chargepool.close(rtol=1e-3, atol=0.5), "count": "exact"}).to_wire()
    assert wire == common_pb2.Comparator(
        kind=common_pb2.COMPARATOR_KIND_EXACT,
        outputs=[
            common_pb2.OutputComparator(name="count", kind=common_pb2.COMPARATOR_KIND_EXACT),
            common_pb2.OutputComparator(
                name="loss", kind=common_pb2.COMPARATOR_KIND_CLOSE, rtol=1e-3, atol=0.5
            ),
        ],
    )
    rest = chargepool.per_output({"a": "exact"}, otherwise=chargepool.ulp(2))
    assert rest.to_wire().kind == common_pb2.COMPARATOR_KIND_ULP
    assert not rest.is_exact
    assert as_comparator({"a": "exact"}).is_exact


def test_sdk_and_pool_have_one_bound_on_ulps() -> None:
    assert ULPS_MAX == ulps.ULPS_MAX


@pytest.mark.parametrize("n", [0, -1, ULPS_MAX + 1, 1.5, True])
def test_ulps_have_bounds(n: Any) -> None:
    with pytest.raises(chargepool.ProgramRefused):
        chargepool.ulp(n)


def test_outputs_have_one_comparator_each() -> None:
    with pytest.raises(chargepool.ProgramRefused):
        chargepool.per_output({"a": chargepool.per_output({"b": "exact"})})
    with pytest.raises(chargepool.ProgramRefused, match="no output 'los'"):
        as_comparator({"los": "exact"}).require_outputs(["loss"])


def test_a_comparator_survives_its_record() -> None:
    comparator = chargepool.per_output({"a": chargepool.ulp(3), "b": chargepool.unordered()})
    assert Comparator.from_json(comparator.to_json()) == comparator
    assert Comparator.from_json({"rtol": 0.5, "atol": 0.0}) == chargepool.close(rtol=0.5, atol=0)
    assert str(comparator) == "per_output({'a': ulp(3), 'b': unordered()}, otherwise=exact())"


def test_an_unknown_comparator_is_refused() -> None:
    with pytest.raises(chargepool.ProgramRefused, match="close"):
        as_comparator("roughly")


def test_a_batch_that_the_pool_does_not_take_is_tried_once() -> None:
    tries: list[int] = []

    class Silent(ScriptedSession):
        def add_tasks(self, job_id: str, first_index: int, inputs: Sequence[Any]) -> int:
            tries.append(first_index)
            raise PoolUnreachable("silence")

    feed = TaskFeed(
        cast(Session, Silent()), job_id=JOB_ID, program=program(), items=[1.0, 2.0, 3.0], batch_size=2
    )
    with pytest.raises(PoolUnreachable):
        feed.fill(3)
    assert tries == [0], "its patience is not asked for twice"
    assert feed.sent == 0
