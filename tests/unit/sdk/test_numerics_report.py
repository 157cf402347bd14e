"""A check of a program's numerics, with runs that a test makes up; and how its comparators are typed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import chargepool
from chargepool._comparators import Comparator
from chargepool._errors import ChargepoolError, ProgramRefused
from chargepool._numerics import NumericsReport, check, workload
from chargepool._records import Records
from chargepool._settings import PINNED, ROUNDED, Outcome, Runs, Setting, Workload
from chargepool.cli._comparing import comparator_options, words_of
from pool_protocol.errors import ErrorCode
from tests.unit.sdk.scripted_session import program

HALF: Any = np.float32(0.5)
OTHER = Setting(name="other", what="something else", environment={})


def work() -> Workload:
    ready = program()
    return workload(
        name=ready.name,
        artifact=ready.artifact,
        draft=ready.manifest.draft,
        operations=ready.manifest.cost.operations,
        samples=[np.float32(1)],
        constants={},
    )


def report_of(
    *,
    again: Any = HALF,
    rounded: Any = HALF,
    other: Any = HALF,
    whole: Any = None,
    others: Sequence[Setting] = (OTHER,),
) -> NumericsReport:
    """The report of a program that returns 0.5, and under some settings something else, or fails."""

    def run(_work: Workload, settings: Sequence[Setting]) -> list[Outcome]:
        assert settings[:3] == (PINNED, PINNED, ROUNDED)
        first = Runs(outputs=[{"value": HALF}], whole=() if whole is None else [{"value": whole}])
        return [first, *(_outcome(value) for value in (again, rounded)), *[_outcome(other)] * len(others)]

    return check(work(), others=others, run=run)


def _outcome(value: Any) -> Outcome:
    return value if isinstance(value, ChargepoolError) else Runs(outputs=[{"value": value}])


def test_what_was_seen_becomes_a_proposal() -> None:
    report = report_of(other=np.nextafter(HALF, np.float32(1)))
    assert report.comparator == chargepool.ulp(16)
    assert report.class_rule == "any-class"
    assert report.refusals == ()
    assert report.objection(chargepool.exact()) is not None
    assert report.objection(chargepool.ulp(16)) is None
    text = str(report)
    assert "Tried on 1 input: pp1 twice and with inputs rounded otherwise; other." in text
    assert "Declare ulp(16), compared between any two cars." in text


def test_a_program_that_differs_from_itself_is_refused_and_says_so() -> None:
    report = report_of(again=np.float32(0.75))
    assert report.class_rule is None
    with pytest.raises(ProgramRefused) as refused:
        _ = report.comparator
    assert refused.value.code is ErrorCode.PROGRAM_NOT_REPRODUCIBLE
    assert "'value' differs in 1 of 1 numbers" in refused.value.detail
    text = str(report)
    assert "Refused: Output 'value' differs" in text
    assert "Next: " in text
    assert "Declare" not in text


def test_a_step_program_whose_cuts_differ_is_refused_as_the_pool_would() -> None:
    with pytest.raises(ProgramRefused) as refused:
        _ = report_of(whole=np.float32(0.75)).comparator
    assert refused.value.code is ErrorCode.PROGRAM_UNITS_DIFFER


def test_a_setting_that_this_machine_has_not_is_left_out_and_named() -> None:
    broken = ProgramRefused("no such flag", code=ErrorCode.PROGRAM_FAILED)

    def run(_work: Workload, settings: Sequence[Setting]) -> list[Outcome]:
        same = Runs(outputs=[{"value": HALF}])
        return [broken if setting.name == "broken" else same for setting in settings]

    odd = Setting(name="broken", what="", environment={})
    report = check(work(), others=(odd, OTHER), run=run)
    assert report.settings == ("pp1", "other")
    assert report.skipped == {"broken": "no such flag"}
    assert "Not tried: broken: no such flag" in str(report)
    with pytest.raises(ProgramRefused, match="no such flag"):
        check(work(), others=(odd,), run=run)


def test_a_program_that_fails_under_the_cars_profile_has_no_report() -> None:
    failed = ProgramRefused("it divided by zero", code=ErrorCode.PROGRAM_FAILED)
    with pytest.raises(ProgramRefused, match="divided by zero"):
        report_of(again=failed)
    with pytest.raises(ProgramRefused, match="divided by zero"):
        report_of(rounded=failed)


def test_a_report_is_kept_and_says_the_same_again(tmp_path: Path) -> None:
    report = report_of(other=np.float32(0.5001), whole=HALF)
    Records(tmp_path).remember_numerics(report)
    found = Records(tmp_path).numerics(report.program_id)
    assert found == report
    assert found is not None
    assert found.proposal == report.proposal
    [path] = tmp_path.glob("numerics/*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    assert Records(tmp_path).numerics(report.program_id) is None
    path.write_text("{")
    assert Records(tmp_path).numerics(report.program_id) is None
    assert Records(tmp_path).numerics("b" * 64) is None


def test_where_nothing_can_be_written_a_process_still_knows_its_own_check(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    records = Records(tmp_path / "file")
    report = report_of()
    records.remember_numerics(report)
    assert records.numerics(report.program_id) == report


# --- on the command line ------------------------------------------------------------------------

rules = st.one_of(
    st.just(chargepool.exact()),
    st.just(chargepool.unordered()),
    st.builds(chargepool.ulp, st.integers(1, 2**20)),
    st.builds(
        lambda rtol, atol: chargepool.close(rtol=rtol, atol=atol),
        st.floats(1e-300, 1e300),
        st.sampled_from([0.0, 1e-8, 0.1]),
    ),
)
names = st.text(alphabet="ab/=: '\"é", min_size=1, max_size=6)


def typed(words: str) -> Comparator | None:
    """What the options make of words in a shell."""
    found: list[Comparator | None] = []

    @click.command()
    @comparator_options
    def command(*, comparator: Comparator | None) -> None:
        found.append(comparator)

    answer = CliRunner().invoke(command, shlex.split(words))
    assert answer.exit_code == 0, answer.output
    return found[0]


@given(rest=rules, own=st.dictionaries(names, rules, max_size=3))
def test_whatever_is_proposed_can_be_typed(rest: Comparator, own: dict[str, Comparator]) -> None:
    comparator = chargepool.per_output(own, otherwise=rest) if own else rest
    assert typed(words_of(comparator)) == comparator


def test_the_short_options_say_the_same() -> None:
    assert typed("") is None
    assert typed("--close 1e-5 1e-8") == typed("--compare close:1e-5,1e-8")
    assert typed("--ulp 4") == typed("--compare ulp:4") == chargepool.ulp(4)
    assert typed("--unordered") == typed("--compare unordered")


def test_a_measured_comparator_is_one_for_all_outputs() -> None:
    wanted = typed("--compare measured")
    assert wanted is not None
    assert wanted.is_measured
    assert str(wanted) == "measured"
    assert chargepool.exact().is_measured is False
