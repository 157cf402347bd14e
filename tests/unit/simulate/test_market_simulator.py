"""The simulated month keeps the market's rules, balances, and is the same for the same seed."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.cli.root import cli
from pool_server.simulate.market.demand import draw_jobs
from pool_server.simulate.market.figures import figures, owners_figures, percentile
from pool_server.simulate.market.fleet import draw_fleet
from pool_server.simulate.market.month import Month, Settings, World, draw_world, run_month
from pool_server.simulate.market.plots import draw
from pool_server.simulate.market.tariffs import QUARTERS_PER_DAY, fixed, night

SMALL = Settings(days=3, vehicles=150, buyers=8, seed=4)
SMALL_OPTIONS = ["simulate", "market", "--days", "2", "--vehicles", "60", "--buyers", "5"]


def silent(share: float) -> None:
    assert 0 < share <= 1


@pytest.fixture(scope="module")
def world() -> World:
    return draw_world(SMALL)


@pytest.fixture(scope="module")
def month(world: World) -> Month:
    return run_month(world, step_ppm=200_000, tell=silent)


@pytest.fixture(scope="module")
def unlimited(world: World) -> Month:
    return run_month(world, step_ppm=None, tell=silent)


def test_the_same_seed_is_the_same_month(world: World, month: Month) -> None:
    again = run_month(draw_world(SMALL), step_ppm=200_000, tell=silent)
    assert (again.quarters, again.owners, again.gain_micros) == (
        month.quarters,
        month.owners,
        month.gain_micros,
    )


def test_what_cars_did_is_what_jobs_got_and_what_was_traded(month: Month) -> None:
    traded = sum(quarter.traded_uwu for quarter in month.quarters)
    assert traded > 0
    assert sum(owner.work_uwu for owner in month.owners) == traded
    assert sum(run.job.work_uwu - run.left_uwu for run in month.jobs) == traded


def test_everybody_is_paid_the_posted_price(month: Month) -> None:
    exact = sum(quarter.traded_uwu * quarter.posted_micros_per_wu for quarter in month.quarters)
    paid = sum(owner.gross_micros for owner in month.owners)
    # Pay is rounded up, by less than a micro for each car and quarter hour.
    assert exact <= paid * 1_000_000 < exact + len(month.quarters) * len(month.owners) * 1_000_000


def test_trade_is_the_short_side_of_the_willing(month: Month) -> None:
    for quarter in month.quarters:
        assert quarter.traded_uwu == min(quarter.willing_bid_uwu, quarter.willing_ask_uwu)
        assert quarter.willing_bid_uwu <= quarter.bid_uwu
        assert quarter.willing_ask_uwu <= quarter.ask_uwu


def test_nobody_loses(month: Month, unlimited: Month) -> None:
    for played in (month, unlimited):
        assert min(owner.net_micros for owner in played.owners) >= 0
        assert played.gain_micros > 0


def test_the_price_moves_by_a_step_at_most_or_goes_where_the_auction_points(
    month: Month, unlimited: Month
) -> None:
    posted = [SMALL.start_micros_per_wu, *(quarter.posted_micros_per_wu for quarter in month.quarters)]
    assert all(abs(after - before) <= max(1, before // 5) for before, after in pairwise(posted))
    assert all(quarter.posted_micros_per_wu == quarter.target_micros_per_wu for quarter in unlimited.quarters)
    assert len({quarter.posted_micros_per_wu for quarter in unlimited.quarters}) > 5


def test_jobs_end_in_time(month: Month) -> None:
    for run in month.jobs:
        assert (run.done is not None) == (run.left_uwu == 0)
        if run.began is not None:
            assert run.job.arrives <= run.began
        if run.done is not None:
            assert run.began is not None
            assert run.began <= run.done < run.job.ends


def test_figures_are_of_this_month(world: World, month: Month, unlimited: Month) -> None:
    row = figures(world, month, unlimited=unlimited)
    assert row.step_p95 == pytest.approx(0.2, abs=0.05)
    assert row.gain_kept == month.gain_micros / unlimited.gain_micros
    assert row.jobs == len(world.jobs) == len(month.jobs)
    assert row.jobs_finished == sum(run.done is not None for run in month.jobs)
    assert 0 <= row.idle_share < row.queued_share < 1
    everybody, *by_computer = owners_figures(world, month)
    assert everybody.vehicles == SMALL.vehicles == sum(kind.vehicles for kind in by_computer)
    assert everybody.net_per_charging_hour == row.net_per_charging_hour
    assert everybody.net_per_charging_hour.p10 <= everybody.net_per_charging_hour.p50


def test_without_patience_work_is_done_at_once_or_never() -> None:
    impatient = draw_world(Settings(days=1, vehicles=80, buyers=4, patient=False))
    played = run_month(impatient, step_ppm=200_000, tell=silent)
    assert any(run.done is not None for run in played.jobs)
    assert all(run.done in {None, run.job.arrives} for run in played.jobs)


def test_scarce_cars_serve_more_value_where_higher_bids_go_first() -> None:
    even = Settings(days=2, vehicles=100, buyers=8, demand=3.0, patient=False)
    gains = [
        run_month(draw_world(settings), step_ppm=50_000, tell=silent).gain_micros
        for settings in (even, replace(even, higher_bids_first=True))
    ]
    assert gains[0] < gains[1]


def test_buyers_who_wait_have_even_shares() -> None:
    """Two buyers whose work never ends have the same work, but for a lease."""
    world = draw_world(Settings(days=1, vehicles=60, buyers=1))
    jobs = [
        replace(world.jobs[0], job_id=n, order_id=f"job_{n}", buyer_id=f"b{n}", arrives=0, ends=96, path=None)
        for n in range(2)
    ]
    endless = [replace(job, work_uwu=10**17, cap_micros_per_wu=90) for job in jobs]
    month = run_month(replace(world, jobs=endless), step_ppm=200_000, tell=silent)
    had = [run.job.work_uwu - run.left_uwu for run in month.jobs]
    lease_uwu = max(vehicle.speed_uwu_per_s for vehicle in world.fleet) * 900
    assert min(had) > 10 * lease_uwu
    assert abs(had[0] - had[1]) <= lease_uwu


def test_demand_is_a_multiple_of_what_cars_can_do(world: World) -> None:
    assert sum(job.work_uwu for job in world.jobs) == pytest.approx(0.8 * world.capacity_uwu, rel=1e-3)
    assert draw_jobs(Random(1), buyers=1, days=1, total_work_uwu=0) is not None


def test_dearer_electricity_makes_dearer_cars() -> None:
    cheap, dear = (
        draw_fleet(Random(1), vehicles=20, days=1, tariff=fixed(Decimal(price)), fee_ppm=100_000)
        for price in ("0.10", "0.50")
    )
    assert all(low.reserves[0] < high.reserves[0] for low, high in zip(cheap, dear, strict=True))
    # What is left of the reserve after the fee covers electricity, margin and wish.
    for vehicle in dear:
        assert (
            vehicle.reserves[0] * 900
            >= vehicle.limit_micros_per_kwu(0)
            > vehicle.electricity_micros_per_kwu(0)
        )


def test_cars_with_a_night_rate_wait_for_it() -> None:
    def at_night(tariff_night: str) -> float:
        tariff = night(Decimal("0.40"), Decimal(tariff_night))
        fleet = draw_fleet(Random(1), vehicles=150, days=7, tariff=tariff, fee_ppm=0)
        hours = [
            (quarter % QUARTERS_PER_DAY // 4, seconds)
            for vehicle in fleet
            for quarter, seconds in vehicle.charging
        ]
        return sum(seconds for hour, seconds in hours if hour in {22, 23, 0, 1, 2, 3, 4, 5}) / sum(
            seconds for _, seconds in hours
        )

    assert at_night("0.15") > at_night("0.40") + 0.15


def test_percentiles_are_by_nearest_rank() -> None:
    assert [percentile([4, 1, 3, 2], share) for share in (0.0, 0.25, 0.5, 0.95, 1.0)] == [1, 1, 2, 4, 4]
    assert percentile([], 0.5) == 0


def test_the_command_prints_a_month() -> None:
    printed = CliRunner().invoke(cli, SMALL_OPTIONS, catch_exceptions=False)
    assert printed.exit_code == 0
    assert "Posted price by day, micro-EUR per WU (limiter 20 %)" in printed.stdout
    for words in ("none", "20 % *", "10 %", "5 %", "deadlines met", "inference"):
        assert words in printed.stdout


def test_the_command_prints_the_same_json_for_the_same_seed() -> None:
    options = [*SMALL_OPTIONS, "--json", "--step-ppm", "70000", "--tariff", "0.3", "--currency", "USD"]
    one, other = (CliRunner().invoke(cli, options, catch_exceptions=False).stdout for _ in range(2))
    assert one == other
    told: dict[str, Any] = json.loads(one)
    assert [row["step_ppm"] for row in told["limiters"]] == [None, 200_000, 100_000, 70_000, 50_000]
    assert len(told["posted_micros_per_wu"]) == 2 * QUARTERS_PER_DAY
    assert told["settings"]["tariff"] == "0.3"
    assert told["owners"][0]["net_per_charging_hour"].keys() == {"p10", "p50", "p90"}


def test_pictures_are_drawn(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "pictures"
    printed = CliRunner().invoke(cli, [*SMALL_OPTIONS, "--plots", str(folder)], catch_exceptions=False)
    assert printed.exit_code == 0
    for name in ("market-price.png", "market-owners.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
        assert str(folder / name) in printed.stdout


@pytest.mark.parametrize(
    "options",
    [["--demand", "nan"], ["--demand", "0"], ["--demand", "inf"], ["--currency", ""], ["--currency", "euro"],
     ["--days", "0"], ["--step-ppm", "0"], ["--step-ppm", "1000001"], ["--fee-ppm", "1000000"]],
)  # fmt: skip
def test_numbers_out_of_range_end_in_a_sentence(options: list[str]) -> None:
    result = CliRunner().invoke(cli, [*SMALL_OPTIONS, *options])
    assert result.exit_code == 2
    assert options[0] in result.stderr


def test_a_pool_of_one_car_has_a_month() -> None:
    options = ["simulate", "market", "--days", "1", "--vehicles", "1", "--buyers", "1"]
    assert CliRunner().invoke(cli, options, catch_exceptions=False).exit_code == 0


def test_a_folder_that_cannot_be_made_is_told_first(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    hours = ["simulate", "market", "--days", "366", "--vehicles", "50000"]
    result = CliRunner().invoke(cli, [*hours, "--plots", str(tmp_path / "file" / "in")])
    assert isinstance(result.exception, PoolError)
    assert "--plots" in result.exception.next_step


def test_a_picture_that_cannot_be_written_is_told(world: World, month: Month, tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="cannot be written"):
        draw(world, month, folder=tmp_path / "missing", currency="EUR")


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("pool_server.cli.simulate_market.find_spec", lambda name: None)
    result = CliRunner().invoke(cli, [*SMALL_OPTIONS, "--plots", str(tmp_path)])
    assert isinstance(result.exception, PoolError)
    assert result.exception.code is ErrorCode.INVALID_STATE
    assert "pip install 'chargepool[plots]'" in result.exception.next_step
    assert importlib.util.find_spec("matplotlib") is not None
