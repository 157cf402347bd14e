"""The `chargepool` command: what it prints, where, and with which exit status."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pytest

from chargepool._settings import Outcome, Runs, Setting, Workload
from chargepool.cli import cli, run_command
from chargepool.cli._files import ResultSink, plain
from chargepool.cli._price import Duration
from pool_protocol.v1 import common_pb2
from tests.integration.sdk.fake_pool import PRICE, TOKEN, FakePool

FUNCTIONS = """
import jax
import jax.numpy as jnp

example = {"x": 1.0}

def square(inputs):
    return {"y": inputs["x"] ** 2}

def curve(inputs):
    x = inputs["x"]
    return {"y": jnp.tanh(x * 3.3 + x * x), "count": (x > 0.0).sum()}

def scaled(constants, inputs):
    return inputs * constants["scale"]

def verify(inputs, outputs, nonce):
    return (outputs["y"] == inputs["x"] ** 2).all()

def same(inputs):
    return inputs["x"]

def step(state, inputs, constants):
    return state + inputs

def bad(inputs):
    return jax.pure_callback(lambda v: v, jax.ShapeDtypeStruct((), "float32"), inputs["x"])
"""


@dataclass
class Answer:
    status: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "f.py").write_text(FUNCTIONS)
    (folder / "in.jsonl").write_text("".join(f'{{"x": {number}.0}}\n' for number in range(4)))
    np.savez(folder / "in.npz", x=np.arange(4, dtype=np.float32))
    np.savez(folder / "rows.npz", x=np.ones((2, 3), np.float32))
    np.savez(folder / "line.npz", x=np.linspace(-1, 1, 1_000, dtype=np.float32)[None])
    np.savez(folder / "bare.npz", np.arange(4, dtype=np.float32))
    np.save(folder / "bare.npy", np.arange(4, dtype=np.float32))
    np.savez(folder / "c.npz", scale=np.float32(10))
    (folder / "steps.jsonl").write_text('{"state": 1.0, "inputs": 2.0}\n{"state": 5.0, "inputs": 0.5}\n')
    return folder


@pytest.fixture
def chargepool(
    pool: FakePool, files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    (files / "ca.pem").write_bytes(pool.ca_pem)
    (files / "token").write_text(TOKEN)
    (files / "token").chmod(0o600)
    monkeypatch.setenv("CHARGEPOOL_ADDRESS", pool.address)
    monkeypatch.setenv("CHARGEPOOL_CA_FILE", str(files / "ca.pem"))
    monkeypatch.setenv("CHARGEPOOL_TOKEN_FILE", str(files / "token"))
    monkeypatch.chdir(files)

    def run(*arguments: str) -> Answer:
        capsys.readouterr()
        status = run_command(list(arguments))
        printed = capsys.readouterr()
        return Answer(status, printed.out, printed.err)

    return run


# --- quote and run ------------------------------------------------------------------------------


def test_a_quote_says_what_it_costs_and_spends_nothing(chargepool: Command, pool: FakePool) -> None:
    answer = chargepool("quote", "f.py:square", "--tasks", "10")
    assert answer.status == 0
    assert "10 tasks at 0.000100 = 0.001000 EUR" in answer.out
    quoted = json.loads(chargepool("quote", "f.py:square", "--inputs", "in.npz", "--json").out)
    assert (quoted["tasks"], quoted["total_micros"]) == (4, 4 * PRICE)
    assert not pool.jobs


def test_a_quote_tells_what_to_expect_and_on_which_grounds(chargepool: Command, pool: FakePool) -> None:
    told = chargepool("quote", "f.py:square", "--tasks", "10").out
    assert "Per task: spot 0.000100 (error 0.01) EUR." in told
    assert "8 times in 10 between 90 and 120" in told
    assert "about 10 min, 8 times in 10 between 4 s and 2 h 13 min. From the speeds of 6 cars" in told
    assert "about 1.5 Wh, 0.36 g CO2. 60 J per WU (assumed)." in told
    quoted = json.loads(chargepool("quote", "f.py:square", "--tasks", "10", "--json").out)
    assert quoted["estimate"]["time_p90_s"] == 8_000
    assert quoted["levels"] == [
        {"level": "spot", "attempts_per_task": 1, "cost_micros_per_task": PRICE, "epsilon": 0.01}
    ]


def test_run_writes_json_lines_to_stdout_and_all_talk_to_stderr(chargepool: Command) -> None:
    answer = chargepool("run", "f.py:square", "--inputs", "in.jsonl", "--yes")
    assert answer.status == 0
    lines = [json.loads(line) for line in answer.out.splitlines()]
    assert [line["value"] for line in lines] == [{"y": 0.0}, {"y": 1.0}, {"y": 4.0}, {"y": 9.0}]
    assert "4 results, 0 failed; job_1 cost 0.000400 EUR." in answer.err


@pytest.mark.parametrize("inputs", ["bare.npz", "bare.npy"])
def test_run_writes_npz(chargepool: Command, files: Path, inputs: str) -> None:
    words = ["--inputs", inputs, "--constants", "c.npz", "--yes", "-o", "out.npz"]
    assert chargepool("run", "f.py:scaled", *words).status == 0
    with np.load(files / "out.npz") as out:
        assert out["value"].tolist() == [0, 10, 20, 30]
        assert out["task_index"].tolist() == [0, 1, 2, 3]
        assert out["task_cost_micros"].tolist() == [PRICE] * 4


@pytest.mark.parametrize("name", ["f.py:verify", "sorted_permutation"])
def test_run_with_a_certificate(chargepool: Command, pool: FakePool, name: str) -> None:
    function = "f.py:same" if name == "sorted_permutation" else "f.py:square"
    answer = chargepool("run", function, "--inputs", "rows.npz", "--certificate", name, "--yes")
    assert answer.status == 0, answer.err
    [job] = pool.jobs.values()
    assert job.request.certificate_sha256 in pool.programs
    assert job.request.certificate_sha256 != job.request.program_sha256


def test_a_certificate_that_does_not_exist_names_those_that_do(chargepool: Command) -> None:
    answer = chargepool("run", "f.py:square", "--inputs", "in.npz", "--certificate", "magic", "--yes")
    assert answer.status == 2
    assert "freivalds" in answer.err


def test_run_makes_steps(chargepool: Command) -> None:
    words = ["--inputs", "steps.jsonl", "--unit-steps", "2", "--steps", "4", "--yes"]
    answer = chargepool("run", "f.py:step", *words)
    assert [json.loads(line)["value"] for line in answer.out.splitlines()] == [9.0, 7.0]


def test_run_does_not_reserve_money_unasked(chargepool: Command, pool: FakePool) -> None:
    answer = chargepool("run", "f.py:square", "--inputs", "in.jsonl")
    assert answer.status == 2
    assert "--yes" in answer.err
    assert not pool.jobs
    assert chargepool("run", "f.py:square", "--inputs", "in.jsonl", "--budget-micros", "900").status == 0
    assert pool.jobs["job_1"].request.budget_micros == 900


def test_failed_tasks_make_the_status_one(chargepool: Command, pool: FakePool) -> None:
    pool.failing = {1}
    words = ["run", "f.py:square", "--inputs", "in.jsonl", "--yes"]
    answer = chargepool(*words, "--on-error", "return")
    assert answer.status == 1
    assert json.loads(answer.out.splitlines()[1])["error"]["code"] == "PROGRAM_FAILED"
    stopped = chargepool(*words)
    assert stopped.status == 1
    assert "Task 1 failed" in stopped.err
    assert "was cancelled: nothing more is spent" in stopped.err


def test_ctrl_c_is_130_and_says_how_to_come_back(
    chargepool: Command, pool: FakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: ResultSink, result: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ResultSink, "add", interrupted)
    answer = chargepool("run", "f.py:square", "--inputs", "in.jsonl", "--yes", "-o", "out.jsonl")
    assert answer.status == 130
    assert "chargepool job resume job_1" in answer.err


# --- jobs ---------------------------------------------------------------------------------------


def test_a_run_is_resumed_with_its_own_files(chargepool: Command, pool: FakePool, files: Path) -> None:
    chargepool("run", "f.py:square", "--inputs", "in.jsonl", "--yes", "-o", "out.jsonl")
    (files / "out.jsonl").unlink()
    answer = chargepool("job", "resume", "job_1")
    assert answer.status == 0
    assert [json.loads(line)["value"]["y"] for line in (files / "out.jsonl").read_text().splitlines()] == [
        0,
        1,
        4,
        9,
    ]
    assert len(pool.jobs) == 1
    (files / "in.jsonl").write_text('{"x": 5.0}\n')
    changed = chargepool("job", "resume", "job_1")
    assert changed.status == 1
    assert "has changed since" in changed.err


def test_jobs_are_listed_shown_watched_and_cancelled(chargepool: Command, pool: FakePool) -> None:
    assert "You have no jobs yet" in chargepool("jobs").err
    chargepool("run", "f.py:square", "--inputs", "in.jsonl", "--yes", "--name", "squares")
    assert re.search(r"job_1\s+squares\s+done\s+4\s+4\s+0", chargepool("jobs").out)
    assert json.loads(chargepool("jobs", "--json").out)[0]["spent_micros"] == 4 * PRICE
    assert "4 accepted, 0 failed, of 4" in chargepool("job", "show", "job_1").out
    assert json.loads(chargepool("job", "watch", "job_1", "--json").out)["state"] == "done"
    assert len(chargepool("job", "results", "job_1").out.splitlines()) == 4
    assert chargepool("job", "cancel", "job_1").status == 0
    missing = chargepool("job", "show", "job_9")
    assert (missing.status, "chargepool jobs" in missing.err) == (1, True)


# --- everything else ----------------------------------------------------------------------------


def test_a_program_is_checked_without_any_pool(chargepool: Command, pool: FakePool) -> None:
    pool.kill()
    answer = chargepool("program", "check", "f.py:square", "--no-numerics")
    assert answer.status == 0
    assert "takes    inputs/x float32[]" in answer.out
    refused = chargepool("program", "check", "f.py:bad")
    assert refused.status == 1
    assert "PROGRAM_CALLBACK" in refused.out
    assert json.loads(chargepool("program", "check", "f.py:bad", "--json").out)["allowed"] is False
    quick = chargepool("program", "check", "f.py:square", "--no-numerics", "--json")
    assert json.loads(quick.out)["outputs"] == ["y float32[]"]
    assert "numerics" not in json.loads(quick.out)


def test_a_check_says_how_results_should_be_compared_and_a_run_when_they_are_not(
    chargepool: Command, pool: FakePool
) -> None:
    answer = chargepool("program", "check", "f.py:curve", "--inputs", "line.npz", "--ulp", "1", "--json")
    assert answer.status == 1, "ulp(1) will not hold"
    numerics = json.loads(answer.out)["numerics"]
    assert numerics["proposal"]["class_rule"] == "any-class"
    assert [told["name"] for told in numerics["proposal"]["outputs"]] == ["count", "y"]
    assert numerics["objection"].startswith("ulp(1) will not hold: output 'y' differs")
    proposed = shlex.split(numerics["options"])

    words = ["run", "f.py:curve", "--inputs", "line.npz", "--yes"]
    unheeded = chargepool(*words)
    assert unheeded.status == 0
    assert "Note: exact() will not hold across numeric classes: output 'y' differs" in unheeded.err
    assert numerics["options"] in unheeded.err
    assert "Warning" not in unheeded.err
    heeded = chargepool(*words, *proposed)
    assert heeded.status == 0
    assert "Note:" not in heeded.err
    assert [job.request.comparator.kind for job in pool.jobs.values()] == [
        common_pb2.COMPARATOR_KIND_EXACT,
        common_pb2.COMPARATOR_KIND_ULP,
    ]


def test_a_program_that_differs_from_itself_is_told_with_status_one(
    chargepool: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = np.ones(3, np.float32)

    def run(_work: Workload, settings: Sequence[Setting]) -> list[Outcome]:
        return [Runs(outputs=[{"y": one + number % 2}] * 2) for number, _setting in enumerate(settings)]

    monkeypatch.setattr("chargepool._numerics.run_settings", run)
    answer = chargepool("program", "check", "f.py:square", "--inputs", "rows.npz")
    assert answer.status == 1
    assert "Refused: Output 'y' differs in 6 of 6 numbers" in answer.out
    assert "Next: Look for work whose order is left to chance" in answer.out
    refused = chargepool("run", "f.py:square", "--inputs", "rows.npz", "--compare", "measured", "--yes")
    assert refused.status == 1
    assert "PROGRAM_NOT_REPRODUCIBLE" in refused.err


def test_a_run_can_be_compared_as_it_was_measured(chargepool: Command, pool: FakePool) -> None:
    answer = chargepool("run", "f.py:curve", "--inputs", "line.npz", "--compare", "measured", "--yes")
    assert answer.status == 0, answer.err
    assert "Declare ulp(" in answer.err
    assert "Note:" not in answer.err
    assert pool.jobs["job_1"].request.comparator.kind == common_pb2.COMPARATOR_KIND_ULP


def test_every_comparator_can_be_said(chargepool: Command, pool: FakePool) -> None:
    words = ["run", "f.py:square", "--inputs", "in.jsonl", "--yes"]
    assert chargepool(*words, "--unordered").status == 0
    assert chargepool(*words, "--ulp", "4", "--compare", "y=close:1e-5,1e-8").status == 0
    first, second = (job.request.comparator for job in pool.jobs.values())
    assert first == common_pb2.Comparator(kind=common_pb2.COMPARATOR_KIND_SET)
    assert second == common_pb2.Comparator(
        kind=common_pb2.COMPARATOR_KIND_ULP,
        ulps=4,
        outputs=[
            common_pb2.OutputComparator(name="y", kind=common_pb2.COMPARATOR_KIND_CLOSE, rtol=1e-5, atol=1e-8)
        ],
    )
    unknown = chargepool(*words, "--compare", "z=ulp:4")
    assert unknown.status == 1
    assert "has no output 'z'; its outputs are ['y']" in unknown.err


@pytest.mark.parametrize("kept", ["comparator", "tolerances"])
def test_a_resumed_run_keeps_its_comparator(
    chargepool: Command, pool: FakePool, files: Path, kept: str
) -> None:
    words = ["--inputs", "in.jsonl", "--yes", "-o", "out.jsonl", "--close", "1e-3", "1e-6"]
    chargepool("run", "f.py:square", *words)
    if kept == "tolerances":  # what version 0.1 wrote
        [record] = files.parent.glob("state/chargepool/jobs/*/job_1.json")
        facts = json.loads(record.read_text())
        del facts["comparator"]
        record.write_text(json.dumps({**facts, "tolerances": [1e-3, 1e-6]}))
    answer = chargepool("job", "resume", "job_1")
    assert answer.status == 0, answer.err
    [manifest] = [manifest for manifest, _loaded in pool.programs.values()]
    assert manifest.draft.outputs[0].comparator.rtol == 1e-3


def test_balance_and_receipts(chargepool: Command, files: Path) -> None:
    chargepool("run", "f.py:square", "--inputs", "in.jsonl", "--yes")
    assert json.loads(chargepool("balance", "--json").out)["spent_micros"] == 4 * PRICE
    assert "0.000400 EUR" in chargepool("balance").out
    assert "4 receipts verified" in chargepool("receipts", "verify", "--job", "job_1").out
    assert chargepool("receipts", "save", "--job", "job_1", "r.jsonl").status == 0
    report = json.loads(chargepool("receipts", "verify", "r.jsonl", "--json").out)
    assert (report["verified"], report["gross_micros"], report["jobs"]) == (4, 4 * PRICE, ["job_1"])
    assert (report["logged"], report["faults"]) == (0, [])  # this pool has no log
    (files / "r.jsonl").write_text('{"proven_receipt": "AAAA"}\n')
    damaged = chargepool("receipts", "verify", "r.jsonl", "--json")
    assert damaged.status == 1
    assert json.loads(damaged.err)["error"]["code"]
    assert chargepool("receipts", "verify").status == 2


def test_config_and_doctor_say_what_holds_and_what_fails(
    chargepool: Command, pool: FakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = chargepool("config")
    assert "CHARGEPOOL_ADDRESS" in shown.out
    assert TOKEN not in shown.out
    healthy = chargepool("doctor")
    assert healthy.status == 0
    assert healthy.out.count("ok  ") == 4
    monkeypatch.setenv("CHARGEPOOL_TOKEN", "cp_buyer_revoked_long_ago")
    monkeypatch.delenv("CHARGEPOOL_TOKEN_FILE")
    report = json.loads(chargepool("doctor", "--json").out)
    assert [entry["ok"] for entry in report] == [True, True, False, True]
    assert report[2]["next_step"]
    monkeypatch.delenv("CHARGEPOOL_ADDRESS")
    lost = chargepool("doctor")
    assert lost.status == 1
    assert "set CHARGEPOOL_ADDRESS" in lost.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["quote", "f.py"], "is not FILE.py:function"),
        (["quote", "g.py:f"], "there is no file"),
        (["quote", "f.py:nothing"], "it has: bad, curve, same, scaled, square, step, verify"),
        (["run", "f.py:square", "--inputs", "f.py", "--yes"], ".npz, .npy, .jsonl"),
        (["run", "f.py:square", "--inputs", "in.npz", "--yes", "-o", "x.csv"], "results are .npz or .jsonl"),
        (["run", "f.py:square", "--inputs", "in.npz", "--yes", "-o", "no/x.npz"], "there is no folder 'no'"),
        (["quote", "f.py:square", "--level", "sloppy"], "Invalid value for '--level'"),
        (["quote", "f.py:square", "--compare", "ulp"], "write exact, close:RTOL,ATOL, ulp:N or unordered"),
        (["quote", "f.py:square", "--compare", "y=close:1e-5"], "'close:1e-5' is not a rule"),
        (["quote", "f.py:square", "--ulp", "0"], "ulp(n) takes an integer from 1"),
        (["quote", "f.py:square", "--ulp", "4", "--unordered"], "one rule for all outputs"),
        (["quote", "f.py:square", "--compare", "y=exact", "--compare", "y=ulp:4"], "'y' has two rules"),
        (["program", "check", "f.py:square", "--steps", "4"], "say --unit-steps too"),
        (["nonsense"], "No such command"),
    ],
)
def test_wrong_usage_is_two_and_says_why(chargepool: Command, arguments: list[str], said: str) -> None:
    answer = chargepool(*arguments)
    assert answer.status == 2
    assert said in answer.err


def test_the_demo_gets_its_own_arguments(chargepool: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command(["demo", "--help"])
    assert ended.value.code == 0
    assert "--chaos" in capsys.readouterr().out


def commands(group: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, command in getattr(group, "commands", {}).items():
        found += [(*path, name), *commands(command, (*path, name))]
    return found


@pytest.mark.parametrize("path", [path for path in commands(cli) if path != ("demo",)], ids=" ".join)
def test_every_command_explains_itself(chargepool: Command, path: tuple[str, ...]) -> None:
    answer = chargepool(*path, "--help")
    assert answer.status == 0
    assert "Usage: chargepool" in answer.out
    assert all(len(line) <= 100 for line in answer.out.splitlines())


def test_a_function_that_fails_while_it_is_traced_is_told_with_what_it_was_given(
    chargepool: Command, tmp_path: Path
) -> None:
    (tmp_path / "wrong.py").write_text("def scale(inputs):\n    return inputs['x'] * 2\n")
    np.savez(tmp_path / "wrong.npz", y=np.ones((3, 4), np.float32))
    answer = chargepool("quote", str(tmp_path / "wrong.py:scale"), "--inputs", str(tmp_path / "wrong.npz"))
    assert answer.status == 1
    assert "line 2 fails while it is traced: KeyError: 'x'; its inputs are {y: float32[4]}" in answer.err
    assert "Traceback" not in answer.err


def test_a_file_that_is_none_is_refused_in_plain_words(chargepool: Command, tmp_path: Path) -> None:
    for content in (b"not a file of arrays", b"", b"PK\x03\x04 cut off"):
        (tmp_path / "bad.npz").write_bytes(content)
        answer = chargepool("quote", "f.py:square", "--inputs", str(tmp_path / "bad.npz"))
        assert answer.status == 1
        assert "cannot be read as inputs" in answer.err
        assert "pickle" not in answer.err


@pytest.mark.parametrize("arguments", [("--tasks", str(2**64)), ("--tasks", "0")])
def test_a_number_out_of_range_is_a_usage_error(chargepool: Command, arguments: tuple[str, str]) -> None:
    answer = chargepool("quote", "f.py:square", *arguments)
    assert answer.status == 2
    assert "is not in the range" in answer.err


def test_what_json_has_no_number_for_is_a_string() -> None:
    value = {"x": np.array([[1.5, np.nan], [np.inf, -np.inf]], np.float32), "z": np.array([1 + 2j])}
    assert plain(value) == {"x": [[1.5, "NaN"], ["Infinity", "-Infinity"]], "z": [[1.0, 2.0]]}
    json.dumps(plain(value), allow_nan=False)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90.0), ("90s", 90.0), ("1.5m", 90.0), ("6h", 21_600.0), ("2D", 172_800.0)]
)
def test_a_deadline_is_said_in_any_unit(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "h", "soon", "-1h", "0", "nan", "inf", "1e999d", "6 hours"])
def test_a_deadline_that_is_none_is_refused_with_examples(text: str) -> None:
    with pytest.raises(click.BadParameter, match="say 90s, 30m, 6h or 2d"):
        Duration().convert(text, None, None)
