"""Energy as vehicles told it, in SQL."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from pool_protocol.limits import DAY_US
from pool_server.core.energy import EnergyFigures, EnergySource, EnergySums, add_up, sum_of
from pool_server.core.settlement import UNRESOLVED_AFTER_LEASE_US
from pool_server.ports.energy import AttemptEnergyRow
from pool_server.store.driver import Driver
from pool_server.store.statements import fetch_in, insert_many, write_many

_COLUMNS = "attempt_id, owner_id, vehicle_id, energy_mj, source, electricity_micros, told_at_us"
_SUM_COLUMNS = "energy_mj, measured_mj, electricity_micros, attempts, unpriced_attempts"
_ADD_DAY = (
    f"INSERT INTO energy_days (owner_id, day, vehicle_id, source, {_SUM_COLUMNS}) "
    "VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT (owner_id, day, vehicle_id, source) DO UPDATE SET "
    + ", ".join(
        f"{column.strip()} = energy_days.{column.strip()} + excluded.{column.strip()}"
        for column in _SUM_COLUMNS.split(",")
    )
)
#: Sums over rows of `attempt_energy AS e`, grouped by source: the label of each part is known.
_SUMS_OF_ATTEMPTS = (
    "e.source, SUM(e.energy_mj), SUM(CASE WHEN e.source <> 'declared' THEN e.energy_mj ELSE 0 END), "
    "SUM(COALESCE(e.electricity_micros, 0)), COUNT(*), "
    "SUM(CASE WHEN e.electricity_micros IS NULL THEN 1 ELSE 0 END)"
)
_SUMS_OF_DAYS = "source, " + ", ".join(f"SUM({column.strip()})" for column in _SUM_COLUMNS.split(","))
_PAID = (
    "FROM receipts AS r JOIN attempt_energy AS e ON e.attempt_id = r.attempt_id "
    "WHERE r.owner_id = ? AND r.verified_at_us >= ? AND r.verified_at_us < ?"
)
#: States in which an attempt may still be paid.
_UNDECIDED = "'leased', 'returned'"
#: A result waits no longer for its verdict than its money is kept for it, with room to spare.
_WAIT_US_MAX = UNRESOLVED_AFTER_LEASE_US + 30 * DAY_US
_ENDED_AT = "(CASE WHEN a.decided_at_us > 0 THEN a.decided_at_us ELSE e.told_at_us END)"


class SqlEnergyRepository:
    """Implements `ports.energy.EnergyRepository`."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    def told_of(self, attempt_ids: Sequence[int]) -> set[int]:
        statement = "SELECT attempt_id FROM attempt_energy WHERE attempt_id IN ({marks})"
        return {row[0] for row in fetch_in(self._driver, statement, attempt_ids)}

    def append(self, rows: Sequence[AttemptEnergyRow]) -> None:
        insert_many(self._driver, "attempt_energy", _COLUMNS, [_values(row) for row in rows])
        days: dict[tuple[str, int, str, str], list[EnergySums]] = defaultdict(list)
        for row in rows:
            key = (row.owner_id, row.told_at_us // DAY_US, row.vehicle_id, row.figures.source.value)
            days[key].append(sum_of(row.figures))
        write_many(self._driver, _ADD_DAY, [(*key, *add_up(parts)[:5]) for key, parts in days.items()])

    def of_paid(self, owner_id: str, *, from_us: int, until_us: int) -> dict[int, EnergyFigures]:
        rows = self._driver.run(
            f"SELECT e.attempt_id, e.energy_mj, e.source, e.electricity_micros {_PAID}",
            (owner_id, from_us, until_us),
        )
        return {row[0]: EnergyFigures(row[1], EnergySource(row[2]), row[3]) for row in rows}

    def of_paid_by_day(
        self, owner_id: str, *, from_us: int, until_us: int
    ) -> dict[tuple[int, str], EnergySums]:
        rows = self._driver.run(
            f"SELECT r.verified_at_us / {DAY_US}, r.vehicle_id, {_SUMS_OF_ATTEMPTS} {_PAID} "
            f"GROUP BY r.verified_at_us / {DAY_US}, r.vehicle_id, e.source",
            (owner_id, from_us, until_us),
        )
        parts: dict[tuple[int, str], list[EnergySums]] = defaultdict(list)
        for day, vehicle_id, *sums in rows:
            parts[int(day), vehicle_id].append(_sums(sums))
        return {key: add_up(values) for key, values in parts.items()}

    def of_unpaid(self, owner_id: str, *, from_us: int, until_us: int) -> EnergySums:
        # What ended in the range was told in it or, where it waited for a verdict, not long before.
        rows = self._driver.run(
            f"SELECT {_SUMS_OF_ATTEMPTS} FROM attempt_energy AS e "
            "JOIN attempts AS a ON a.attempt_id = e.attempt_id "
            "WHERE e.owner_id = ? AND e.told_at_us >= ? AND e.told_at_us < ? "
            f"AND a.state NOT IN ({_UNDECIDED}) AND {_ENDED_AT} >= ? AND {_ENDED_AT} < ? "
            "AND NOT EXISTS (SELECT 1 FROM receipts AS r WHERE r.attempt_id = e.attempt_id) "
            "GROUP BY e.source",
            (owner_id, from_us - _WAIT_US_MAX, until_us, from_us, until_us),
        )
        return add_up(_sums(row) for row in rows)

    def days(self, owner_id: str, *, from_day: int, until_day: int) -> dict[int, EnergySums]:
        rows = self._driver.run(
            f"SELECT day, {_SUMS_OF_DAYS} FROM energy_days WHERE owner_id = ? AND day >= ? AND day < ? "
            "GROUP BY day, source",
            (owner_id, from_day, until_day),
        )
        parts: dict[int, list[EnergySums]] = defaultdict(list)
        for day, *sums in rows:
            parts[day].append(_sums(sums))
        return {day: add_up(values) for day, values in parts.items()}

    def owner_sums(self, owner_id: str) -> EnergySums:
        rows = self._driver.run(
            f"SELECT {_SUMS_OF_DAYS} FROM energy_days WHERE owner_id = ? GROUP BY source", (owner_id,)
        )
        return add_up(_sums(row) for row in rows)


def _values(row: AttemptEnergyRow) -> tuple[Any, ...]:
    figures = row.figures
    return (
        row.attempt_id,
        row.owner_id,
        row.vehicle_id,
        figures.energy_mj,
        figures.source.value,
        figures.electricity_micros,
        row.told_at_us,
    )


def _sums(row: Sequence[Any]) -> EnergySums:
    """Read a source and its five sums; PostgreSQL sums integers to decimals."""
    source, *figures = row
    energy_mj, measured_mj, electricity_micros, attempts, unpriced = (int(figure) for figure in figures)
    return EnergySums(energy_mj, measured_mj, electricity_micros, attempts, unpriced, source)
