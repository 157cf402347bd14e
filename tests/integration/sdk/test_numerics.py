"""A program's numerics are really checked: child processes with JAX of their own, under real settings."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import chargepool
from chargepool._errors import InputRefused, ProgramRefused
from chargepool._numerics import check, workload
from chargepool._settings import PINNED, Setting
from tests.integration.sdk.fake_pool import FakePool

LINE = np.linspace(-1, 1, 1_000, dtype=np.float32)


def curve(inputs: Any) -> Any:
    x = inputs["x"]
    return {"y": jnp.tanh(x * 3.3 + x * x), "count": (x > 0.0).sum()}


def chaos(x: Any) -> Any:
    return jax.lax.fori_loop(0, 120, lambda _, v: v * 3.9 + v * v * -3.9, jnp.abs(x))


def integers(constants: Any, n: Any) -> Any:
    return jnp.cumsum(n) * constants


def step(state: Any, inputs: Any, constants: Any) -> Any:
    return {"x": state["x"] + jnp.tanh(state["x"] * 1.7 + inputs) * 0.01, "n": state["n"] + 1}


def test_a_job_that_was_checked_warns_of_a_comparator_that_will_not_hold(
    client: chargepool.Client, pool: FakePool
) -> None:
    unchecked = client.program(curve, {"x": LINE})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(client.map(unchecked, [{"x": LINE}]))
    report = unchecked.check_numerics([{"x": LINE}, {"x": LINE * 2}])
    assert report.samples == 2
    assert report.settings == ("pp1", "unpinned", "unfused", "reassociated")
    assert report.class_rule == "any-class"
    assert report.comparator.rule_of("count") == report.comparator.rule_of("nothing else"), "as the others"
    assert unchecked.numerics == report

    again = client.program(curve, {"x": LINE})  # made anew, and the same program
    with pytest.warns(chargepool.NumericsWarning, match="curve: exact\\(\\) will not hold across") as caught:
        list(client.map(again, [{"x": LINE}]))
    assert caught[0].filename == __file__, "it points at the line that made the job"
    with pytest.warns(chargepool.NumericsWarning) as caught:
        client.submit_job(again, [{"x": LINE}])
    assert caught[0].filename == __file__
    held = client.program(curve, {"x": LINE}, comparator=report.comparator)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(client.map(held, [{"x": LINE}]))
        list(client.map(again, [{"x": LINE}], level="none"))
        list(
            client.map(
                again, [{"x": LINE}], certificate=lambda _inputs, outputs, _nonce: outputs["count"] > 0
            )
        )


def test_a_measured_comparator_is_found_at_export_and_remembered(
    client: chargepool.Client, pool: FakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = client.program(curve, {"x": LINE}, comparator="measured")
    assert measured.numerics is not None
    assert measured.comparator == measured.numerics.comparator
    assert not measured.comparator.is_exact
    assert str(measured.comparator).startswith("ulp(")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was measured before")

    monkeypatch.setattr("chargepool._numerics.check", never)
    list(client.map(curve, [{"x": LINE}], comparator="measured"))
    assert pool.jobs["job_1"].request.comparator == measured.comparator.to_wire()
    with pytest.raises(ProgramRefused, match="for all of them"):
        client.program(curve, {"x": LINE}, comparator={"y": "measured"})


def test_chaos_can_be_compared_by_its_bits_alone(client: chargepool.Client) -> None:
    report = client.program(chaos, LINE).check_numerics()
    assert report.samples == 0, "inputs were made up from the declared types"
    assert report.comparator == chargepool.exact()
    assert report.class_rule == "same-class"
    assert report.objection(chargepool.exact()) is None
    assert report.objection(chargepool.close(rtol=1e-3, atol=1e-6)) is not None


def test_whole_numbers_are_the_same_everywhere(client: chargepool.Client) -> None:
    ready = client.program(integers, np.arange(9, dtype=np.int32), constants=np.int32(3))
    report = ready.check_numerics([np.arange(9, dtype=np.int32)])
    assert (report.comparator, report.class_rule) == (chargepool.exact(), "any-class")
    assert report.families == ("integer",)


def test_steps_are_made_in_units_and_compared_with_the_same_steps_in_one(client: chargepool.Client) -> None:
    state = {"x": LINE, "n": np.int32(0)}
    ready = client.step_program(step, state, np.float32(0.1), unit_steps=3)
    report = ready.check_numerics([(state, np.float32(0.1))], steps=7)
    assert report.steps == 7
    by_name = {output.name: output for output in report.outputs}
    cuts = [output.cut for output in by_name.values()]
    assert all(cut is not None and cut.is_equal for cut in cuts)
    assert report.class_rule == "any-class"
    assert not by_name["x"].elsewhere.is_equal
    assert by_name["n"].elsewhere.is_equal
    with pytest.raises(InputRefused, match="how many steps its tasks make"):
        client.step_program(lambda x, _inputs, _constants: x * 0.5, LINE, unit_steps=2, comparator="measured")
    measured = client.step_program(step, state, np.float32(0.1), unit_steps=3, comparator="measured")
    assert measured.comparator == report.comparator
    task = (state, np.float32(0.1))
    with pytest.warns(chargepool.NumericsWarning, match="was checked on 7 steps, and tasks make 9"):
        client.submit_job(measured, [task], steps=9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client.submit_job(measured, [task], steps=7)
    with pytest.raises(InputRefused, match="not a pair"):
        ready.check_numerics([state])


def test_settings_are_not_those_of_the_shell(
    client: chargepool.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--no_such_flag=true")
    monkeypatch.setenv("JAX_ENABLE_X64", "true")
    ready = client.program(integers, np.arange(9, dtype=np.int32), constants=np.int32(3))
    work = workload(
        name="integers",
        artifact=ready.artifact,
        draft=ready.manifest.draft,
        operations=ready.manifest.cost.operations,
        samples=[],
        constants=ready.constants,
    )
    odd = Setting(name="odd", what="", environment={"XLA_FLAGS": "--no_such_flag=true"})
    report = check(work, others=(PINNED, odd))
    assert list(report.skipped) == ["odd"]
    assert "ended with status" in report.skipped["odd"]


def test_a_program_that_takes_too_long_is_told(client: chargepool.Client) -> None:
    with pytest.raises(ProgramRefused, match=r"not done after 0\.01 s"):
        client.program(chaos, LINE).check_numerics(timeout_s=0.01)
