"""Sources: what each reports, and that what it cannot read is unknown, never fine."""

import asyncio
import itertools
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from car_agent.core.signals import ChargeState, PlugState, VehicleSignals
from car_agent.vehicle.file import FileSource
from car_agent.vehicle.script import PARKED, ScriptedChange, SimulatedSource, read_script
from car_agent.vehicle.sessions import charging_sessions
from car_agent.vehicle.source import SIGNAL_NAMES, SignalSource
from car_agent.vehicle.sysfs import SysfsSource, read_power_supplies
from pool_protocol.errors import PoolError
from tests.support.clock import ManualClock


async def reports_of(source: SignalSource, *, count: int) -> list[VehicleSignals]:
    """Run a source until it has reported so often."""
    reports: list[VehicleSignals] = []
    enough = asyncio.Event()

    def report(signals: VehicleSignals) -> None:
        reports.append(signals)
        if len(reports) >= count:
            enough.set()

    task = asyncio.create_task(source.run(report))
    async with asyncio.timeout(10):
        await enough.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return reports


# --- scripts ------------------------------------------------------------------------------------


def script_file(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "script.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_script_is_read_with_comments_and_blank_lines(tmp_path: Path) -> None:
    path = script_file(
        tmp_path,
        "# a short charge",
        '{"at_s": 0, "set": {"plug": "plugged", "charge": "starting"}}',
        "",
        '{"at_s": 2.5, "set": {"charge": "charging", "soc_percent": 61}}',
    )
    changes = read_script(path)
    assert [change.at_s for change in changes] == [0.0, 2.5]
    assert changes[0].values == {"plug": PlugState.PLUGGED, "charge": ChargeState.STARTING}
    assert changes[1].values == {"charge": ChargeState.CHARGING, "soc_percent": 61.0}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("not json", "not JSON"),
        ('{"at_s": 1}', "a line is"),
        ('{"at_s": -1, "set": {}}', "at_s"),
        ('{"at_s": true, "set": {}}', "at_s"),
        ('{"at_s": 1, "set": {"soc": 4}}', "there is no signal 'soc'"),
        ('{"at_s": 1, "set": {"plug": "in"}}', "one of unknown, unplugged, plugged"),
        ('{"at_s": 1, "set": {"moving": "no"}}', "true, false or null"),
        ('{"at_s": 1, "set": {"soc_percent": "61"}}', "a number or null"),
        ('{"at_s": 1, "set": {"source": "me"}}', "there is no signal 'source'"),
    ],
)
def test_a_wrong_script_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    path = script_file(tmp_path, '{"at_s": 0, "set": {}}', line)
    with pytest.raises(PoolError) as refused:
        read_script(path)
    assert "line 2" in refused.value.detail
    assert words in refused.value.detail


def test_a_script_may_not_go_back_in_time(tmp_path: Path) -> None:
    path = script_file(tmp_path, '{"at_s": 5, "set": {}}', '{"at_s": 4, "set": {}}')
    with pytest.raises(PoolError, match="goes back"):
        read_script(path)


async def test_a_script_is_replayed_by_monotonic_time_at_its_speed() -> None:
    class SteppingClock(ManualClock):
        """Half a second passes between two looks."""

        def monotonic_ns(self) -> int:
            self.advance(seconds=0.5)
            return super().monotonic_ns()

    changes = [
        ScriptedChange(at_s=10, values={"plug": PlugState.PLUGGED}),
        ScriptedChange(at_s=40, values={"charge": ChargeState.CHARGING}),
    ]
    source = SimulatedSource(changes, clock=SteppingClock(), speed=10, heartbeat_s=0)
    reports = await reports_of(source, count=12)
    first_plugged = next(r for r in reports if r.plug is PlugState.PLUGGED)
    first_charging = next(r for r in reports if r.charge is ChargeState.CHARGING)
    assert reports[0].plug is PlugState.UNPLUGGED
    assert reports[0].soc_percent == PARKED["soc_percent"]
    assert first_plugged.charge is ChargeState.IDLE
    assert first_plugged.sequence < first_charging.sequence
    assert reports[-1].charge is ChargeState.CHARGING, "the last state stays"
    # Ten script seconds are one real second: seen no earlier, and at the next look.
    started_ns = reports[0].observed_mono_ns
    assert 1.0 <= (first_plugged.observed_mono_ns - started_ns) / 1e9 <= 2.0


def test_a_speed_must_be_positive() -> None:
    with pytest.raises(PoolError):
        SimulatedSource([], clock=ManualClock(), speed=0)


# --- sessions from a seed -----------------------------------------------------------------------


def first_changes(seed: int, count: int) -> list[ScriptedChange]:
    return list(itertools.islice(charging_sessions(seed), count))


def test_the_same_seed_gives_the_same_car() -> None:
    assert first_changes(7, 500) == first_changes(7, 500)
    assert first_changes(7, 500) != first_changes(8, 500)


@pytest.mark.parametrize("seed", range(5))
def test_sessions_are_possible_cars(seed: int) -> None:
    state: dict[str, Any] = dict(PARKED)
    last_s = 0.0
    for change in first_changes(seed, 3_000):
        assert change.at_s >= last_s
        last_s = change.at_s
        assert set(change.values) <= SIGNAL_NAMES
        state.update(change.values)
        assert 0 <= state["soc_percent"] <= 100
        if state["charge"] is ChargeState.CHARGING:
            assert state["plug"] is PlugState.PLUGGED
            assert not state["moving"]
            assert state["charge_power_w"] > 0
        if state["moving"]:
            assert state["plug"] is PlugState.UNPLUGGED


# --- file ---------------------------------------------------------------------------------------


def write_signals(path: Path, content: str, *, at_us: int) -> None:
    path.write_text(content, encoding="utf-8")
    os.utime(path, ns=(at_us * 1_000, at_us * 1_000))


def test_a_file_is_as_fresh_as_its_modification_time(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "signals.json"
    clock.advance(seconds=100)
    write_signals(path, '{"plug": "plugged", "charge": "charging", "soc_percent": 55}', at_us=clock.now_us())
    source = FileSource(path, clock=clock, fresh_for_s=10)
    clock.advance(seconds=9)
    signals = source.read()
    assert (signals.plug, signals.charge, signals.soc_percent) == ("plugged", "charging", 55.0)
    assert signals.age_ms(clock.monotonic_ns()) == 9_000
    assert signals.is_fresh(clock.monotonic_ns())
    clock.advance(seconds=2)
    assert not source.read().is_fresh(clock.monotonic_ns())


def test_a_file_from_the_future_is_not_trusted(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "signals.json"
    clock.advance(seconds=100)
    write_signals(path, "{}", at_us=clock.now_us())
    source = FileSource(path, clock=clock)
    clock.step_wall(us=-60_000_000)
    assert not source.read().is_fresh(clock.monotonic_ns())


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"plug": "in"}', '{"soc_percent": 400}', "\x00" * 70_000]
)
def test_a_file_that_cannot_be_understood_is_refused(tmp_path: Path, content: str) -> None:
    clock, path = ManualClock(), tmp_path / "signals.json"
    write_signals(path, content, at_us=clock.now_us())
    with pytest.raises(PoolError):
        FileSource(path, clock=clock).read()


async def test_a_file_that_disappears_is_reported_as_unknown_at_once(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "signals.json"
    write_signals(path, '{"plug": "plugged", "charge": "charging"}', at_us=clock.now_us())
    seen: list[VehicleSignals] = []
    gone = asyncio.Event()

    def report(signals: VehicleSignals) -> None:
        seen.append(signals)
        path.unlink(missing_ok=True)
        if len(seen) == 2:
            gone.set()

    task = asyncio.create_task(FileSource(path, clock=clock, poll_s=0.001).run(report))
    async with asyncio.timeout(10):
        await gone.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [signals.charge for signals in seen] == [ChargeState.CHARGING, ChargeState.UNKNOWN]


# --- sysfs --------------------------------------------------------------------------------------

Tree = dict[str, dict[str, str]]
MAINS_ON = {"type": "Mains", "online": "1"}
MAINS_OFF = {"type": "Mains", "online": "0"}


def battery(status: str, **attributes: str) -> dict[str, str]:
    return {"type": "Battery", "present": "1", "status": status, "capacity": "70", **attributes}


TAKES = battery("Charging")


def build(root: Path, tree: Tree) -> Path:
    for supply, attributes in tree.items():
        (root / supply).mkdir(parents=True)
        for name, value in attributes.items():
            (root / supply / name).write_text(value + "\n" if value else "", encoding="ascii")
    return root


@pytest.mark.parametrize(
    ("tree", "plug", "charge", "discharging"),
    [
        # A common laptop: one barrel plug, one battery that counts energy.
        ({"AC": MAINS_ON, "BAT0": battery("Charging")}, "plugged", "charging", False),
        ({"AC": MAINS_OFF, "BAT0": battery("Discharging")}, "unplugged", "idle", True),
        # Another maker's adapter name, and a battery at its charge threshold.
        ({"ADP1": MAINS_ON, "BAT0": battery("Not charging")}, "plugged", "stopped", False),
        ({"ACAD": MAINS_ON, "BAT1": battery("Full")}, "plugged", "complete", False),
        # Two batteries: one is full, the other takes; then one gives while the other takes.
        (
            {"AC": MAINS_ON, "BAT0": battery("Full"), "BAT1": battery("Charging")},
            "plugged",
            "charging",
            False,
        ),
        (
            {"AC": MAINS_ON, "BAT0": battery("Discharging"), "BAT1": battery("Charging")},
            "plugged",
            "idle",
            True,
        ),
        # One battery hides its state: nothing is assumed.
        (
            {"AC": MAINS_ON, "BAT0": battery("Unknown"), "BAT1": battery("Charging")},
            "plugged",
            "unknown",
            False,
        ),
        # USB-C: several ports, one in use.
        (
            {
                "ucsi-source-psy-USBC000:001": {"type": "USB", "online": "0"},
                "ucsi-source-psy-USBC000:002": {"type": "USB", "online": "1"},
                "BAT0": battery("Charging"),
            },
            "plugged",
            "charging",
            False,
        ),
        # A handheld that lists no adapter at all.
        ({"qcom-battery": battery("Charging")}, "plugged", "charging", False),
        ({"qcom-battery": battery("Discharging")}, "unplugged", "idle", True),
        ({"qcom-battery": battery("Unknown")}, "unknown", "unknown", False),
        # A wireless mouse is not this machine's battery; its state changes nothing.
        (
            {
                "AC": MAINS_ON,
                "hidpp_battery_0": battery("Discharging", scope="Device"),
                "BAT0": battery("Charging"),
            },
            "plugged",
            "charging",
            False,
        ),
        # Empty attribute files, as some firmware leaves them.
        ({"AC": {"type": "Mains", "online": ""}, "BAT0": battery("")}, "unknown", "unknown", False),
        # A battery that was taken out.
        ({"AC": MAINS_ON, "BAT0": battery("Unknown", present="0")}, "plugged", "unknown", None),
        # A desktop computer never charges.
        ({"AC": MAINS_ON}, "plugged", "unknown", None),
        ({}, "unknown", "unknown", None),
    ],
)
def test_power_supply_trees(
    tmp_path: Path, tree: Tree, plug: str, charge: str, *, discharging: bool | None
) -> None:
    values = read_power_supplies(build(tmp_path, tree))
    assert (values["plug"], values["charge"], values["discharging"]) == (plug, charge, discharging)


def test_energies_powers_and_temperatures(tmp_path: Path) -> None:
    tree: Tree = {
        "AC": MAINS_ON,
        "BAT0": battery(
            "Charging", energy_now="30000000", energy_full="50000000", power_now="20000000", temp="312"
        ),
        "BAT1": battery("Full", energy_now="10000000", energy_full="10000000", power_now="0", temp="290"),
    }
    values = read_power_supplies(build(tmp_path, tree))
    assert values["soc_percent"] == pytest.approx(40 / 60 * 100)
    assert values["battery_power_w"] == pytest.approx(20.0)
    assert values["battery_temp_c"] == pytest.approx(31.2)
    assert values["eta_full_s"] == pytest.approx(3_600.0)


def test_a_battery_that_counts_charge_is_scaled_by_its_voltage(tmp_path: Path) -> None:
    tree: Tree = {
        "BAT0": battery(
            "Discharging",
            charge_now="2000000",
            charge_full="4000000",
            voltage_now="12000000",
            current_now="-1500000",
        )
    }
    values = read_power_supplies(build(tmp_path, tree))
    assert values["soc_percent"] == pytest.approx(50.0)
    assert values["battery_power_w"] == pytest.approx(-18.0)


async def test_the_sysfs_source_reports_each_look_and_unknown_without_a_tree(tmp_path: Path) -> None:
    build(tmp_path / "tree", {"AC": MAINS_ON, "BAT0": battery("Charging")})
    source = SysfsSource(clock=ManualClock(), root=tmp_path / "tree", poll_s=0)
    assert [signals.charge for signals in await reports_of(source, count=2)] == ["charging", "charging"]
    nothing = SysfsSource(clock=ManualClock(), root=tmp_path / "missing", poll_s=0)
    assert (await reports_of(nothing, count=1))[0].plug is PlugState.UNKNOWN
    build(tmp_path / "odd", {"AC": MAINS_ON, "BAT0": battery("Charging", capacity="nan")})
    odd = SysfsSource(clock=ManualClock(), root=tmp_path / "odd", poll_s=0)
    assert odd.read().soc_percent is None
    (tmp_path / "odd" / "BAT0" / "temp").write_text("99999999")
    assert odd.read().charge is ChargeState.UNKNOWN, "an impossible number makes the whole look unknown"


def test_signal_names_hold_nothing_about_the_report() -> None:
    described: Iterable[str] = json.loads(json.dumps(sorted(SIGNAL_NAMES)))
    assert "plug" in described
    assert not {"source", "observed_us", "sequence"} & set(described)
