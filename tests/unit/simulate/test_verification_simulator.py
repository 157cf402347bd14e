"""The fast simulator agrees with the slow one, keeps the promise, and breaks where the rule is broken."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pool_protocol.errors import PoolError
from pool_server.cli.root import cli
from pool_server.core.verification import HistoryAuditRule
from pool_server.simulate.verification.contradictions import (
    Contradictions,
    lie_passes,
    truth_fails,
    wins_race,
)
from pool_server.simulate.verification.lives import CatchLaw, LifeTable
from pool_server.simulate.verification.one_by_one import run_one_by_one
from pool_server.simulate.verification.plan import Plan, Stretch
from pool_server.simulate.verification.pool import Cheats, Settings, run_cheats, run_honest
from pool_server.simulate.verification.rows import Policy, find_strategy, simulate
from pool_server.simulate.verification.strategies import STRATEGIES, Strategy, World

SMALL = Settings(
    vehicles=500,
    units_per_vehicle=800,
    faulty_share=0.2,
    epsilon=1e-2,
    rule=HistoryAuditRule(assumed_faulty_share=0.2, colluding_auditor_share=0.2),
    league_share=0.2,
    seed=3,
)


def silent(share: float) -> None:
    assert 0 <= share <= 1.0001


def one_auditor(scale: float) -> CatchLaw:
    one = np.ones(1)
    return CatchLaw(scale=scale, from_history=np.zeros(1), factor=one, auditors=one, draw_factor=one)


def cheats_of(settings: Settings, strategy: Strategy) -> Cheats:
    return run_cheats(settings, strategy, silent)


@pytest.mark.parametrize("name", sorted(STRATEGIES.keys() - {"faulty_class", "accusers"}))
def test_drawing_whole_lives_agrees_with_going_unit_by_unit(name: str) -> None:
    fast, slow = cheats_of(SMALL, find_strategy(name)), run_one_by_one(SMALL, find_strategy(name))
    spread = math.sqrt(fast.wrong_variance + slow.wrong_variance)
    assert abs(fast.wrong - slow.wrong) <= 4 * spread + 5
    assert fast.accepted == pytest.approx(slow.accepted, rel=0.03, abs=50)
    assert fast.catches == pytest.approx(slow.catches, rel=0.1, abs=6 * math.sqrt(slow.catches) + 5)
    assert fast.audits == pytest.approx(slow.audits, rel=0.15)


# --- who settles contradictions -----------------------------------------------------------------


@pytest.mark.parametrize("auditors", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.5])
def test_the_race_of_two_sides_is_what_asking_one_owner_after_the_other_gives(
    auditors: int, share: float
) -> None:
    chance, needed, runs = np.random.default_rng([auditors, int(100 * share)]), 1 + auditors, 4_000
    sides = chance.random((runs, 2 * needed)) < share
    for liar, formula in ((True, lie_passes), (False, truth_fails)):
        league = np.cumsum(np.column_stack([np.full(runs, liar), sides]), axis=1)
        places = np.arange(1, league.shape[1] + 1)
        decided = np.maximum(league, places - league) >= needed
        first = decided.argmax(axis=1)
        won = (league[np.arange(runs), first] >= needed).mean()
        expected = formula(auditors, share, Contradictions.OWNERS)
        assert won == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / runs) + 1e-9)


def test_the_pools_own_run_leaves_a_league_nothing_but_silence() -> None:
    for auditors in range(1, 8):
        assert lie_passes(auditors, 0.2, Contradictions.POOL) == pytest.approx(0.2**auditors)
        assert truth_fails(auditors, 0.2, Contradictions.POOL) == 0
        assert lie_passes(auditors, 0.2, Contradictions.OWNERS) > 0.2**auditors
    assert (wins_race(2, 0, 2, 0.0), wins_race(0, 2, 2, 1.0)) == (1.0, 0.0)


def test_accusers_convict_honest_vehicles_where_owners_decide_and_only_there() -> None:
    voted = replace(SMALL, settled=Contradictions.OWNERS)
    accusers = find_strategy("accusers")
    assert cheats_of(voted, accusers).honest_outvoted > 0
    here = cheats_of(SMALL, accusers)
    assert (here.honest_outvoted, here.wrong) == (0, 0)
    assert here.catches > 0
    # A group is caught less often as well.
    group = find_strategy("colluding_group")
    assert cheats_of(voted, group).wrong > 1.5 * cheats_of(SMALL, group).wrong


def test_the_survival_function_is_the_product_it_stands_for() -> None:
    k, s = 20.0, 0.3
    law = one_auditor(k)
    table = LifeTable(Plan.of(Stretch(5), Stretch(50, s, 2.0)), law)
    product, clean = 0.0, 5.0
    for _ in range(50):
        product += math.log(1 - s * k * 2 / (clean + k * 2))
        clean += 2
    assert table.log_survival[-1] == pytest.approx(product, rel=1e-10)


def test_lengths_invert_the_survival_function() -> None:
    law = one_auditor(20.0)
    table = LifeTable(Plan.of(Stretch(10), Stretch(10_000, 0.5)), law)
    uniforms = np.linspace(0.001, 0.999, 500)
    lengths = table.lengths(uniforms)
    alone = LifeTable(Plan.of(Stretch(10), Stretch(10_000, 0.5)).first(10_010), law)
    for uniform, length in zip(uniforms, lengths, strict=True):
        if not np.isfinite(length):
            assert math.exp(alone.log_survival[-1]) >= uniform
            continue
        assert math.exp(alone.log_survival[int(length)]) <= uniform * (1 + 1e-9)
        assert math.exp(alone.log_survival[int(length) - 1]) >= uniform * (1 - 1e-9)


def test_no_strategy_gets_more_than_the_target_accepted() -> None:
    told: list[str] = []
    rows = simulate(
        SMALL,
        level="spot",
        policies=[Policy.CHARGEPOOL],
        strategies=[kind() for kind in STRATEGIES.values()],
        told=lambda label, share: told.append(label),
    )
    assert [row.strategy for row in rows] == list(STRATEGIES)
    assert all(row.error_ci95[0] <= row.eps for row in rows)
    assert all(row.honest_quarantined == 0 for row in rows)
    assert all(row.overhead == pytest.approx(row.overhead_formula, rel=0.05) for row in rows)
    assert told


def test_one_auditor_is_not_enough_where_auditors_are_in_league() -> None:
    naive = Settings(
        vehicles=500,
        units_per_vehicle=2_000,
        faulty_share=0.2,
        epsilon=1e-3,
        rule=HistoryAuditRule(assumed_faulty_share=0.2, colluding_auditor_share=0.0),
        league_share=0.2,
        seed=3,
    )
    row = simulate(
        naive,
        level="standard",
        policies=[Policy.CHARGEPOOL],
        strategies=[find_strategy("colluding_auditors")],
        told=lambda label, share: None,
    )[0]
    assert row.error_ci95[0] > 10 * row.eps


def test_peers_break_on_what_the_rule_withstands() -> None:
    rows = {
        (row.policy, row.strategy): row
        for row in simulate(
            replace(SMALL, epsilon=1e-3),
            level="standard",
            policies=[Policy.BOINC, Policy.QUORUM2],
            strategies=[find_strategy("colluding_group"), find_strategy("honest")],
            told=lambda label, share: None,
        )
    }
    assert rows["quorum2", "colluding_group"].error_ci95[0] > 1e-3
    assert rows["boinc", "colluding_group"].error_ci95[0] > 1e-3
    assert rows["quorum2", "honest"].overhead == 2.0
    assert rows["boinc", "honest"].wrong_accepted == 0


def test_honest_audits_follow_the_formula() -> None:
    honest = run_honest(SMALL)
    assert honest.caught == 0
    assert honest.audits == pytest.approx(honest.audits_expected, rel=0.02)


def test_a_faulty_class_is_found_by_audits_from_outside() -> None:
    cheats = cheats_of(SMALL, find_strategy("faulty_class"))
    assert cheats.class_fault_units > 0
    assert cheats.wrong < 0.01 * cheats.attempted


class Patient(Strategy):
    """A strategy of a reader's own."""

    name = "patient"

    def plan(self, world: World) -> Plan:
        """Wait, then lie once in ten."""
        return Plan.of(Stretch(world.units_per_vehicle // 2), Stretch(10**9, 0.1))


def test_a_readers_own_strategy_is_found_by_its_path() -> None:
    path = "pool_server.simulate.verification.strategies:Sleeper"
    assert find_strategy(path).name == "sleeper"
    assert cheats_of(SMALL, Patient()).wrong > 0


def test_a_strategy_beside_the_shell_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "beside_the_shell.py").write_text(
        "from pool_server.simulate.verification.strategies import Sleeper\n\n\nclass Mine(Sleeper):\n"
        '    name = "mine"\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert find_strategy("beside_the_shell:Mine").name == "mine"


@pytest.mark.parametrize("name", ["nothing", "json:loads", "no.such.module:Thing", "json:Nothing", ":", "a:"])
def test_an_unknown_strategy_is_refused_with_the_names_that_there_are(name: str) -> None:
    with pytest.raises(PoolError, match="no strategy") as caught:
        find_strategy(name)
    assert "sleeper" in caught.value.next_step


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["simulate", "verification", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_prints_json_with_every_figure_and_repeats_itself() -> None:
    arguments = ("--vehicles", "50", "--units-per-vehicle", "1e3", "--json", "--policy", "chargepool")
    first, second = run(*arguments), run(*arguments)
    assert first == second
    rows = json.loads(first)["rows"]
    assert len(rows) == len(STRATEGIES)
    names = [
        "strategy",
        "level",
        "units",
        "wrong_accepted",
        "error",
        "error_ci95",
        "eps",
        "overhead",
        "overhead_formula",
    ]
    names += ["honest_quarantined", "detection_delay_units_p50", "attacker_income_ratio"]
    assert all(name in row for row in rows for name in names)


def test_the_command_prints_a_table_and_what_cheating_costs() -> None:
    text = run("--vehicles", "20", "--units-per-vehicle", "100", "--strategy", "sleeper")
    assert "quorum2" in text
    assert "correct units per wrong one" in text


@pytest.mark.parametrize("number", ["0", "1.5", "ten", "1e13", "-4", "nan", "inf"])
def test_a_count_that_is_none_is_a_usage_error(number: str) -> None:
    result = CliRunner().invoke(cli, ["simulate", "verification", "--vehicles", number])
    assert result.exit_code == 2
    assert "number" in result.output


def test_a_pool_without_honest_vehicles_is_refused() -> None:
    with pytest.raises(PoolError, match="honest"):
        CliRunner().invoke(cli, ["simulate", "verification", "--faulty", "1"], catch_exceptions=False)
