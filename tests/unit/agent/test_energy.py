"""Energy of attempts: counters that go round or back, what of it the work took, and that nothing is lost."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from car_agent.core.energy import (
    COUNTER_WATTS_MAX,
    DEFAULT_JOULES_PER_WU,
    ESTIMATE_US_MAX,
    PICOJOULES_PER_KWH,
    PICOJOULES_PER_MILLIJOULE,
    SILENCE_NS_MAX,
    AttemptEnergy,
    Efficiency,
    EnergySource,
    IdleBaseline,
    Lap,
    counter_step_uj,
)
from car_agent.core.tariff import FixedTariff, NoTariff, Tariff, TariffPrice
from car_agent.energy.counter import CountersTogether
from car_agent.energy.find import find_counter
from car_agent.energy.meter import Meter
from car_agent.energy.nvml import open_nvml
from car_agent.energy.rapl import RaplCounter, open_rapl
from tests.support.clock import START_US, ManualClock

NS_PER_S = 10**9
RANGE_UJ = 262_143_328_850
CENTS_30 = FixedTariff(currency="EUR", micros_per_kwh=300_000)


# --- one counter ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "elapsed_s", "step"),
    [
        (0, 0, 1, 0),
        (1_000, 66_000_000, 1, 65_999_000),
        (RANGE_UJ - 10, 90, 1, 100),
        (RANGE_UJ - 10_000_000, 50_000_000, 1, 60_000_000),
        # Set back, which would be 260 kJ in a second; and more than any processor draws.
        (200_000_000, 5_000_000, 1, None),
        (0, 5_000_000_000, 1, None),
        # Slept: it may have gone round many times.
        (0, 100, 31, None),
        (0, 100, -1, None),
        # A reading beyond the range that the kernel states.
        (RANGE_UJ + 5, 0, 1, None),
    ],
)
def test_two_readings_say_what_flowed_or_nothing(
    before: int, after: int, elapsed_s: int, step: int | None
) -> None:
    assert counter_step_uj(before, after, range_uj=RANGE_UJ, elapsed_ns=elapsed_s * NS_PER_S) == step


@given(
    st.integers(0, RANGE_UJ - 1),
    st.lists(st.tuples(st.integers(1, SILENCE_NS_MAX), st.integers(0, COUNTER_WATTS_MAX)), max_size=20),
)
def test_a_counter_that_goes_round_any_number_of_times_loses_nothing(
    start: int, flows: list[tuple[int, int]]
) -> None:
    reading, seen, true_uj = start, 0, 0
    for elapsed_ns, watts in flows:
        flow_uj = watts * elapsed_ns // 1_000
        before, reading = reading, (reading + flow_uj) % RANGE_UJ
        step = counter_step_uj(before, reading, range_uj=RANGE_UJ, elapsed_ns=elapsed_ns)
        assert step is not None
        seen, true_uj = seen + step, true_uj + flow_uj

    assert seen == true_uj


# --- the kernel's tree ----------------------------------------------------------------------------


def zone(root: Path, name: str, called: str, energy_uj: int | str, *, range_uj: int | str = RANGE_UJ) -> Path:
    path = root / name
    path.mkdir(parents=True, exist_ok=True)
    (path / "name").write_text(f"{called}\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    (path / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return path


def opened(root: Path) -> RaplCounter:
    finding = open_rapl(root)
    assert finding.counter is not None, finding.why_not
    return finding.counter


def test_packages_and_their_memory_are_counted_and_what_holds_them_is_not(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", "package-0", 1_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", RANGE_UJ - 100)
    memory = zone(tmp_path, "intel-rapl:0:1", "dram", 500)
    zone(tmp_path, "intel-rapl:0:0", "core", 10)
    zone(tmp_path, "intel-rapl:2", "psys", 10)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 10)
    counter = opened(tmp_path)
    assert counter.step_uj(0) is None
    for path, energy_uj in ((first, 3_000), (second, 400), (memory, 1_500)):
        (path / "energy_uj").write_text(str(energy_uj))

    assert counter.step_uj(NS_PER_S) == 2_000 + 500 + 1_000
    counter.close()


def test_a_counter_that_fails_once_or_is_set_back_is_unknown_until_the_reading_after(tmp_path: Path) -> None:
    path = zone(tmp_path, "intel-rapl:0", "package-0", 500_000_000) / "energy_uj"
    counter = opened(tmp_path)
    counter.step_uj(0)
    found = []
    for second, text in enumerate(
        ["510000000", "20000000", "21000000", "", "nonsense", "23000000", "24000000"]
    ):
        path.write_text(text)
        found.append(counter.step_uj((second + 1) * NS_PER_S))

    assert found == [10_000_000, None, 1_000_000, None, None, None, 1_000_000]
    counter.close()


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (lambda root: None, "no energy counters"),
        (lambda root: zone(root, "intel-rapl:0", "psys", 1), "processor has no energy counters"),
        (lambda root: zone(root, "intel-rapl:0", "package-0", "what"), "cannot be read"),
        (lambda root: zone(root, "intel-rapl:0", "package-0", 1, range_uj="x"), "cannot be read"),
        (lambda root: (zone(root, "intel-rapl:0", "package-0", 1) / "energy_uj").unlink(), "cannot be read"),
    ],
)
def test_without_counters_the_reason_is_told(tmp_path: Path, build: object, why: str) -> None:
    root = tmp_path / "powercap"
    assert callable(build)
    build(root)

    finding = open_rapl(root)

    assert finding.counter is None
    assert why in finding.why_not


def test_a_counter_for_root_alone_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 1)

    def forbidden(*args: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("car_agent.energy.rapl.os.open", forbidden)  # tests may run as root
    finding = open_rapl(tmp_path)

    assert finding.counter is None
    assert "root alone" in finding.why_not
    assert "lend-a-car" in finding.why_not


# --- the cards ------------------------------------------------------------------------------------


class FakeNvml:
    """The driver's library with some cards; a card whose reading is None does not count."""

    def __init__(self, *readings_mj: int | None, answers: int = 0) -> None:
        self.readings_mj = list(readings_mj)
        self.answers = answers
        self.shut_down = 0

    def nvmlInit_v2(self) -> int:
        return self.answers

    def nvmlShutdown(self) -> int:
        self.shut_down += 1
        return 0

    def nvmlDeviceGetCount_v2(self, count: object) -> int:
        count._obj.value = len(self.readings_mj)  # type: ignore[attr-defined]  # what byref wraps
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: object, handle: object) -> int:
        handle._obj.value = index.value + 1  # type: ignore[attr-defined]  # what byref wraps
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object, total: object) -> int:
        reading_mj = self.readings_mj[handle.value - 1]  # type: ignore[attr-defined]  # a c_void_p
        total._obj.value = reading_mj or 0  # type: ignore[attr-defined]  # what byref wraps
        return 3 if reading_mj is None else 0


def test_cards_are_counted_together_and_a_reset_is_unknown() -> None:
    library = FakeNvml(1_000, 50_000)
    counter = open_nvml(library).counter
    assert counter is not None
    assert counter.step_uj(0) is None
    library.readings_mj = [1_400, 50_300]
    assert counter.step_uj(NS_PER_S) == 700_000
    library.readings_mj = [3, 50_300]
    assert counter.step_uj(2 * NS_PER_S) is None
    library.readings_mj = [4, None]
    assert counter.step_uj(3 * NS_PER_S) is None
    counter.close()
    assert library.shut_down == 1


@pytest.mark.parametrize(
    ("library", "why"),
    [
        (FakeNvml(), "not every NVIDIA card"),
        (FakeNvml(5, None), "not every NVIDIA card"),
        (FakeNvml(5, answers=9), "does not answer"),
        (object(), "too old"),
    ],
)
def test_cards_that_do_not_count_are_told(library: object, why: str) -> None:
    finding = open_nvml(library)

    assert finding.counter is None
    assert why in finding.why_not


def test_a_card_that_is_not_measured_makes_the_worker_a_declared_one(tmp_path: Path) -> None:
    """The processor's counters alone would miss the most of it. No machine of the tests has such a driver."""
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    cpu = find_counter(source="auto", platforms="cpu", rapl_root=tmp_path)
    cuda = find_counter(source="auto", platforms="cuda", rapl_root=tmp_path)
    declared = find_counter(source="declared", platforms="cpu", rapl_root=tmp_path)

    assert cpu.counter is not None
    assert cpu.counter.source is EnergySource.RAPL
    assert (cuda.counter, declared.counter) == (None, None)
    assert "NVIDIA" in cuda.why_not
    cpu.counter.close()


# --- sums -----------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 10**16), st.booleans()), max_size=30),
    st.integers(-(10**6), 10**6),
)
def test_attempts_add_up_to_what_flowed(flows: list[tuple[int, bool]], price: int) -> None:
    lap, told = Lap(), []
    for energy_pj, ends in flows:
        lap.add(energy_pj, price_micros_per_kwh=price, measured=True)
        if ends:
            told.append(lap.close(EnergySource.RAPL))
    told.append(lap.close(EnergySource.RAPL))

    total_pj = sum(energy_pj for energy_pj, _ in flows)
    assert sum(energy.energy_mj for energy in told) == total_pj // PICOJOULES_PER_MILLIJOULE
    costs = [energy.electricity_micros for energy in told]
    assert sum(cost or 0 for cost in costs) == total_pj * price // PICOJOULES_PER_KWH


def test_a_part_that_was_declared_makes_an_attempt_declared_and_the_next_is_measured_again() -> None:
    lap = Lap()
    lap.add(10**12, price_micros_per_kwh=None, measured=True)
    lap.add(10**12, price_micros_per_kwh=300_000, measured=False)
    assert lap.close(EnergySource.RAPL) == AttemptEnergy(2_000, EnergySource.DECLARED, None)
    lap.add(10**12, price_micros_per_kwh=300_000, measured=True)
    assert lap.close(EnergySource.RAPL) == AttemptEnergy(1_000, EnergySource.RAPL, 0)


def test_less_than_nothing_is_carried_to_the_attempt_that_makes_up_for_it() -> None:
    lap = Lap()
    lap.add(-(2 * 10**12), price_micros_per_kwh=300_000, measured=True)
    assert lap.close(EnergySource.RAPL).energy_mj == 0
    lap.add(5 * 10**12, price_micros_per_kwh=300_000, measured=True)
    assert lap.close(EnergySource.RAPL).energy_mj == 3_000


def test_the_idle_baseline_takes_whole_stretches_and_settles() -> None:
    idle = IdleBaseline()
    idle.idled(8_000_000 * 19, 19 * NS_PER_S)
    found = [idle.milliwatts]
    idle.break_off()
    for _ in range(2):
        idle.idled(8_000_000 * 10, 10 * NS_PER_S)
    assert [*found, idle.milliwatts] == [None, 8_000]
    for _ in range(40):
        idle.idled(12_000_000 * 20, 20 * NS_PER_S)
    assert idle.milliwatts is not None
    assert abs(idle.milliwatts - 12_000) <= 4


def test_older_work_counts_less_and_old_work_says_nothing() -> None:
    now_us = 10**15
    before = Efficiency()
    assert not before.is_known(now_us)
    assert before.joules_per_wu(now_us) == DEFAULT_JOULES_PER_WU
    assert before.wu_per_hour(now_us, watts=50.0) == pytest.approx(1_800)

    hour_us = 3_600 * 10**6
    once = before.after(energy_mj=200_000_000, work_uwu=10**9, busy_us=hour_us, now_us=now_us)
    assert once.joules_per_wu(now_us) == pytest.approx(200)
    assert once.wu_per_hour(now_us, watts=1.0) == pytest.approx(1_000)
    twice = once.after(energy_mj=400_000_000, work_uwu=10**9, busy_us=hour_us, now_us=now_us)
    assert twice.joules_per_wu(now_us) == pytest.approx((200 * 0.5 + 400) / 1.5)
    assert twice.joules_per_wu(now_us + ESTIMATE_US_MAX) == DEFAULT_JOULES_PER_WU


def test_attack_a_few_tiny_tasks_do_not_take_a_car_out_for_a_day() -> None:
    """Tasks of a micro-WU are all start-up: what they seem to take says nothing of other work."""
    now_us = 10**15
    tiny = Efficiency().after(energy_mj=13_600, work_uwu=4, busy_us=10**6, now_us=now_us)
    assert not tiny.is_known(now_us)
    assert tiny.joules_per_wu(now_us) == DEFAULT_JOULES_PER_WU
    # More of them are believed, and for not much longer than they were computed.
    for _ in range(120):
        tiny = tiny.after(energy_mj=13_600, work_uwu=4, busy_us=10**6, now_us=now_us)
    assert tiny.is_known(now_us)
    assert not tiny.is_known(now_us + 3_600 * 10**6)
    # A car with an hour of other work hardly notices them.
    hour_us = 3_600 * 10**6
    worked = Efficiency().after(energy_mj=200_000_000, work_uwu=10**9, busy_us=hour_us, now_us=now_us)
    for _ in range(120):
        worked = worked.after(energy_mj=13_600, work_uwu=4, busy_us=10**6, now_us=now_us)
    assert worked.joules_per_wu(now_us) == pytest.approx(200, rel=0.05)


# --- the meter ------------------------------------------------------------------------------------


class SteadyCounter:
    """A counter under a draw that a test sets."""

    source = EnergySource.RAPL

    def __init__(self) -> None:
        self.watts = 0.0
        self.blind = False
        self._last_ns: int | None = None

    def step_uj(self, now_ns: int) -> int | None:
        before_ns, self._last_ns = self._last_ns, now_ns
        if before_ns is None or self.blind:
            return None
        return round(self.watts * (now_ns - before_ns) / 1_000)

    def close(self) -> None:
        pass


def meter(
    clock: ManualClock,
    counter: SteadyCounter | None,
    *,
    wall_factor: float = 1.0,
    count_idle: bool = False,
    tariff: Tariff = CENTS_30,
) -> Meter:
    return Meter(
        counter=counter,
        declared_watts=60.0,
        wall_factor=wall_factor,
        count_idle=count_idle,
        tariff=tariff,
        clock=clock,
    )


def test_work_carries_what_it_adds_to_idling_at_the_wall() -> None:
    clock, counter = ManualClock(), SteadyCounter()
    measured = meter(clock, counter, wall_factor=1.25)
    counter.watts = 8.0
    for _ in range(15):
        clock.advance(seconds=2)
        measured.tick()
    assert measured.idle_milliwatts == 8_000
    measured.starts()
    counter.watts = 48.0
    for _ in range(5):
        clock.advance(seconds=2)
        measured.tick()

    energy, busy_us = measured.lap()

    assert energy == AttemptEnergy(
        10 * 40 * 1_250, EnergySource.RAPL, 10 * 40 * 1_250 * 300_000 // 3_600_000_000
    )
    assert busy_us == 10_000_000
    assert measured.watts == pytest.approx(50.0)


def test_before_the_baseline_is_known_or_where_idling_counts_work_carries_all() -> None:
    for count_idle in (False, True):
        clock, counter = ManualClock(), SteadyCounter()
        measured = meter(clock, counter, count_idle=count_idle)
        counter.watts = 8.0
        if count_idle:
            for _ in range(15):
                clock.advance(seconds=2)
                measured.tick()
        measured.starts()
        counter.watts = 48.0
        clock.advance(seconds=10)
        assert measured.lap()[0].energy_mj == 480_000


def test_what_no_counter_can_tell_is_declared_watts_times_time() -> None:
    clock, counter = ManualClock(), SteadyCounter()
    measured = meter(clock, counter, wall_factor=2.0)
    measured.starts()
    counter.watts, counter.blind = 48.0, True
    clock.advance(seconds=10)
    assert measured.lap()[0] == AttemptEnergy(600_000, EnergySource.DECLARED, 50)

    without = meter(clock, None, tariff=NoTariff())
    without.starts()
    clock.advance(seconds=10)
    assert without.lap()[0] == AttemptEnergy(600_000, EnergySource.DECLARED, None)


def test_a_worker_that_waits_for_work_costs_nobody_anything() -> None:
    clock = ManualClock()
    measured = meter(clock, None)
    measured.resumes()
    clock.advance(seconds=10)
    assert measured.lap() == (AttemptEnergy(0, EnergySource.DECLARED, 0), 0), "no worker lives"
    measured.starts()
    clock.advance(seconds=1)
    measured.rests()
    clock.advance(seconds=100)
    measured.resumes()
    clock.advance(seconds=1)
    assert measured.lap()[0].energy_mj == 120_000
    assert measured.watts == pytest.approx(60.0)
    measured.is_idle()
    clock.advance(seconds=100)
    assert measured.lap()[0].energy_mj == 0
    assert measured.watts == 0


def test_a_price_that_changes_in_the_middle_counts_for_its_part() -> None:
    class DearFirst:
        """Dear for two seconds, then for nothing."""

        currency = "EUR"

        def price(self, now_us: int) -> TariffPrice:
            return TariffPrice(3_600_000 if now_us <= START_US + 2_000_000 else 0)

        def describe(self) -> str:
            return "dear first"

    clock = ManualClock()
    measured = meter(clock, None, tariff=DearFirst())
    measured.starts()
    for _ in range(2):
        clock.advance(seconds=2)
        measured.tick()

    assert measured.lap()[0] == AttemptEnergy(240_000, EnergySource.DECLARED, 120)


def test_two_counters_are_known_only_together() -> None:
    first, second = SteadyCounter(), SteadyCounter()
    both = CountersTogether((first, second))
    assert both.step_uj(0) is None
    first.watts, second.watts = 10.0, 5.0
    assert both.step_uj(NS_PER_S) == 15_000_000
    second.blind = True
    assert both.step_uj(2 * NS_PER_S) is None
    assert both.source is EnergySource.RAPL_NVML
