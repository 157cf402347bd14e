"""Keeps what vehicles tell of energy, told once per attempt, and reads it for owners.

The figures are the owner's own. Nothing here touches pay: a figure that cannot be true is left out, the
vehicle is told why, and the result counts as if it had come without.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pool_server.app.task_board import TaskBoard
from pool_server.app.work_commands import AttemptReport
from pool_server.core.energy import EnergyRefusal, judge_energy
from pool_server.core.jobs import AttemptState
from pool_server.ports.energy import AttemptEnergyRow
from pool_server.ports.fleet import VehicleRow


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenEnergy:
    """A bundle's reports without figures that cannot be true, and why those were left out."""

    reports: Sequence[AttemptReport]
    refusals: Mapping[int, EnergyRefusal]
    """By attempt."""


def take_energy(
    board: TaskBoard, reports: Sequence[AttemptReport], *, vehicle: VehicleRow, lease_id: int
) -> TakenEnergy:
    """Keep the energy of attempts of a lease that are reported for the first time.

    An attempt that the pool cancelled or that came too late has used energy all the same.

    Raises:
        InvariantError: the store refuses.
    """
    told = [report for report in reports if report.energy_mj or report.energy_source or _priced(report)]
    if not told:
        return TakenEnergy(reports=reports, refusals={})
    cleaned: dict[int, AttemptReport] = {}
    refusals: dict[int, EnergyRefusal] = {}
    rows: list[AttemptEnergyRow] = []
    known = _known(board, told)
    for report in told:
        attempt = board.attempts.get(report.attempt_id)
        if attempt is None or attempt.row.lease_id != lease_id:
            continue
        figures, refusal = judge_energy(
            energy_mj=report.energy_mj,
            source=report.energy_source,
            electricity_micros=report.electricity_micros,
            elapsed_us=board.now_us - attempt.row.leased_at_us,
        )
        if refusal is not None:
            refusals[report.attempt_id] = refusal
        if figures is None:
            cleaned[report.attempt_id] = report._replace(energy_mj=0)
        elif attempt.state is AttemptState.LEASED or report.attempt_id not in known:
            rows.append(
                AttemptEnergyRow(
                    report.attempt_id, attempt.row.owner_id, vehicle.vehicle_id, figures, board.now_us
                )
            )
    if rows:
        board.uow.energy.append(rows)
    return TakenEnergy(
        reports=[cleaned.get(report.attempt_id, report) for report in reports], refusals=refusals
    )


def _priced(report: AttemptReport) -> bool:
    return report.electricity_micros is not None


def _known(board: TaskBoard, reports: Sequence[AttemptReport]) -> set[int]:
    """Return whose energy was told before. An attempt under way has told nothing, so most ask nothing."""
    attempts = (board.attempts.get(report.attempt_id) for report in reports)
    ended = [
        attempt.row.attempt_id
        for attempt in attempts
        if attempt is not None and attempt.state is not AttemptState.LEASED
    ]
    return board.uow.energy.told_of(ended) if ended else set()
