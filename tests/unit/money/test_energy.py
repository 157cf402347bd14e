"""Energy as vehicles tell it: what cannot be true is left out, the rest adds up and keeps its label."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pool_protocol.limits import COMPUTE_WATTS_MAX, SECOND_US, TARIFF_MICROS_PER_KWH_MAX
from pool_server.core.energy import (
    MILLIJOULES_PER_KWH,
    MIXED,
    NO_ENERGY,
    EnergyFigures,
    EnergyRefusal,
    EnergySource,
    add_up,
    judge_energy,
    sum_of,
)

FIGURES = st.builds(
    EnergyFigures, st.integers(0, 10**9), st.sampled_from(EnergySource), st.none() | st.integers(-9, 10**9)
)


@pytest.mark.parametrize(
    ("told", "kept", "refusal"),
    [
        # (energy, source, cost) after ten seconds
        ((0, None, None), None, None),
        ((5, None, None), None, EnergyRefusal.ENERGY_NOT_LABELLED),
        ((0, None, 5), None, EnergyRefusal.ENERGY_NOT_LABELLED),
        ((-1, EnergySource.RAPL, None), None, EnergyRefusal.ENERGY_OUT_OF_BOUNDS),
        ((COMPUTE_WATTS_MAX * 11_000 + 1, EnergySource.RAPL, None), None, EnergyRefusal.ENERGY_OUT_OF_BOUNDS),
        (
            (COMPUTE_WATTS_MAX * 11_000, EnergySource.RAPL, None),
            (COMPUTE_WATTS_MAX * 11_000, EnergySource.RAPL, None),
            None,
        ),
        ((2**63 - 1, EnergySource.RAPL, 2**63 - 1), None, EnergyRefusal.ENERGY_OUT_OF_BOUNDS),
        ((0, EnergySource.RAPL, 0), (0, EnergySource.RAPL, 0), None),
        ((650_000, EnergySource.DECLARED, -54), (650_000, EnergySource.DECLARED, -54), None),
        (
            (650_000, EnergySource.NVML, -(2**63)),
            (650_000, EnergySource.NVML, None),
            EnergyRefusal.ELECTRICITY_OUT_OF_BOUNDS,
        ),
        (
            (650_000, EnergySource.NVML, 10**9),
            (650_000, EnergySource.NVML, None),
            EnergyRefusal.ELECTRICITY_OUT_OF_BOUNDS,
        ),
    ],
)
def test_what_cannot_be_true_is_left_out(
    told: tuple[int, EnergySource | None, int | None],
    kept: tuple[int, EnergySource, int | None] | None,
    refusal: EnergyRefusal | None,
) -> None:
    energy_mj, source, electricity_micros = told

    judged = judge_energy(
        energy_mj=energy_mj, source=source, electricity_micros=electricity_micros, elapsed_us=10 * SECOND_US
    )

    assert judged == (None if kept is None else EnergyFigures(*kept), refusal)


@given(st.integers(0, TARIFF_MICROS_PER_KWH_MAX), st.integers(0, 10**9))
def test_an_honest_cost_by_any_tariff_is_taken(tariff: int, energy_mj: int) -> None:
    cost = -(-tariff * energy_mj // MILLIJOULES_PER_KWH)

    figures, refusal = judge_energy(
        energy_mj=energy_mj,
        source=EnergySource.DECLARED,
        electricity_micros=cost,
        elapsed_us=energy_mj * SECOND_US,
    )

    assert (figures, refusal) == (EnergyFigures(energy_mj, EnergySource.DECLARED, cost), None)


@given(st.lists(FIGURES, max_size=8), st.integers(0, 8))
def test_sums_of_parts_are_the_sum_of_all(figures: list[EnergyFigures], at: int) -> None:
    whole = add_up(map(sum_of, figures))

    assert add_up([add_up(map(sum_of, figures[:at])), add_up(map(sum_of, figures[at:]))]) == whole
    assert whole.attempts == len(figures)
    assert whole.measured_mj <= whole.energy_mj


def test_a_sum_over_two_sources_is_mixed_and_one_of_nothing_has_no_label() -> None:
    measured, declared = (
        sum_of(EnergyFigures(7, source, None)) for source in (EnergySource.RAPL, EnergySource.DECLARED)
    )

    assert add_up([measured, declared, NO_ENERGY]).source == MIXED
    assert add_up([measured, declared]).measured_mj == 7
    assert add_up([measured, NO_ENERGY]).source == "rapl"
    assert add_up([]) == NO_ENERGY
