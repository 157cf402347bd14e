"""Numeric classes in SQL: vehicles' classes, what tasks ask of classes, class faults."""

from collections.abc import Collection, Sequence
from typing import Any

from pool_server.core.fleet import ACTIVE_STATES
from pool_server.core.trust import TrustRecord
from pool_server.core.verification.classes import Ask, ClassFault, Scope
from pool_server.ports.classes import ClassAskRow, ClassFigures, FaultFindingRow, VehicleClass
from pool_server.store.driver import Driver
from pool_server.store.id_blocks import SqlIdBlocks
from pool_server.store.statements import fetch_in, insert_many, marks

#: Classes looked at in one command: far more than honest fleets have; strangers could claim any number.
CLASSES_MAX = 256
_ACTIVE = ", ".join(f"'{state.value}'" for state in ACTIVE_STATES)
_SCOPES = {scope.value: scope for scope in Scope}
#: Distinct classes by one jump in the index per class, not by a walk over all vehicles.
_DISTINCT = (
    "WITH RECURSIVE found(name) AS (SELECT min(numeric_class) FROM fleet_vehicles WHERE numeric_class > '' "
    "UNION ALL SELECT (SELECT min(numeric_class) FROM fleet_vehicles WHERE numeric_class > found.name) "
    "FROM found WHERE found.name IS NOT NULL) "
    f"SELECT name FROM found WHERE name IS NOT NULL LIMIT {CLASSES_MAX}"
)
_FINDING_COLUMNS = (
    "finding_id, vehicle_id, owner_id, attempt_id, task_id, job_id, task_index, kind, finding, "
    "claimed_digest, accepted_digest, agreeing_owners, trusted_node, unit_index, clawed_back_micros, "
    "numeric_class, program_sha256, found_at_us"
)
_FIGURES = (
    "WITH checked AS (SELECT a.numeric_class AS own, a.state AS state, a.reason AS reason, "
    "(SELECT count(*) FROM attempts AS b WHERE b.task_id = a.task_id AND b.counting = 1 "
    "AND b.state = 'accepted' AND b.attempt_id <> a.attempt_id AND b.numeric_class = a.numeric_class) "
    "AS alike, "
    "(SELECT count(*) FROM attempts AS b WHERE b.task_id = a.task_id AND b.counting = 1 "
    "AND b.state = 'accepted' AND b.attempt_id <> a.attempt_id AND b.numeric_class <> a.numeric_class) "
    "AS other FROM attempts AS a WHERE a.numeric_class <> '' "
    "AND a.state IN ('accepted', 'rejected', 'discarded')) "
    "SELECT own, count(CASE WHEN state = 'accepted' AND alike > 0 THEN 1 END), "
    "count(CASE WHEN state = 'accepted' AND other > 0 THEN 1 END), count(CASE WHEN other > 0 AND "
    "(state = 'rejected' OR (state = 'discarded' AND reason = 'CLASS_FAULT')) THEN 1 END) "
    "FROM checked GROUP BY own"
)
CLASS_FAULT = "CLASS_FAULT"


class SqlClassRepository:
    """Implements `ports.classes.ClassRepository`."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    # --- vehicles -------------------------------------------------------------------------------

    def of_vehicle(self, vehicle_id: str) -> VehicleClass:
        """A vehicle's class; unknown for a vehicle that is not there."""
        row = self._driver.run(
            "SELECT numeric_class, trusted FROM fleet_vehicles WHERE vehicle_id = ?", (vehicle_id,)
        ).one_or_none()
        return VehicleClass("", False) if row is None else VehicleClass(row[0], bool(row[1]))

    def of_attempts(self, attempt_ids: Sequence[int]) -> dict[int, VehicleClass]:
        """The classes under which attempts were leased; the vehicle's own where none was known then."""
        rows = fetch_in(
            self._driver,
            "SELECT a.attempt_id, CASE WHEN a.numeric_class = '' THEN v.numeric_class "
            "ELSE a.numeric_class END, v.trusted FROM attempts AS a "
            "JOIN fleet_vehicles AS v ON v.vehicle_id = a.vehicle_id WHERE a.attempt_id IN ({marks})",
            attempt_ids,
        )
        return {row[0]: VehicleClass(row[1], bool(row[2])) for row in rows}

    def set_class(self, vehicle_id: str, *, numeric_class: str, probe_json: str) -> None:
        """Note a vehicle's class and what it follows from."""
        self._driver.run(
            "UPDATE fleet_vehicles SET numeric_class = ?, numeric_families_json = ? WHERE vehicle_id = ?",
            (numeric_class, probe_json, vehicle_id),
        )

    def histories(self, vehicle_id: str) -> dict[str, TrustRecord]:
        """All histories of a vehicle, by trust class."""
        rows = self._driver.run(
            "SELECT trust_class, clean_uwu, accepted_attempts, rejected_attempts FROM fleet_trust "
            "WHERE vehicle_id = ?",
            (vehicle_id,),
        )
        return {
            row[0]: TrustRecord(clean_uwu=row[1], accepted_attempts=row[2], rejected_attempts=row[3])
            for row in rows
        }

    def probe_json(self, numeric_class: str) -> str | None:
        """What a class follows from; None when no vehicle has it any more."""
        row = self._driver.run(
            "SELECT numeric_families_json FROM fleet_vehicles WHERE numeric_class = ? LIMIT 1",
            (numeric_class,),
        ).one_or_none()
        return None if row is None else str(row[0])

    def owners(self, *, at_most: int) -> dict[str, int]:
        """Owners with a vehicle at work by class, the unknown one included, each counted to `at_most`."""
        found: dict[str, int] = {}
        for (name,) in [("",), *self._driver.run(_DISTINCT)]:
            count = self._driver.run(
                "SELECT count(*) FROM (SELECT DISTINCT owner_id FROM fleet_vehicles "
                f"WHERE numeric_class = ? AND state IN ({_ACTIVE}) LIMIT ?) AS owners",
                (name, at_most),
            ).scalar_one()
            if count:
                found[name] = int(count)
        return found

    def has_other(self, numeric_class: str, *, owner_id: str, but: Collection[str] = ()) -> bool:
        """Whether another owner has a vehicle at work of another class, or of none that is known.

        Classes in `but` do not count.
        """
        rows = self._driver.run(
            "SELECT 1 FROM fleet_vehicles WHERE (numeric_class > ? OR numeric_class < ?) "
            f"AND numeric_class NOT IN ({marks(1 + len(but))}) AND state IN ({_ACTIVE}) AND owner_id <> ? "
            "LIMIT 1",
            (numeric_class, numeric_class, numeric_class, *but, owner_id),
        )
        return bool(rows.fetchall())

    # --- asks -----------------------------------------------------------------------------------

    def asks(self, task_ids: Sequence[int]) -> dict[int, ClassAskRow]:
        """What tasks ask for."""
        rows = fetch_in(
            self._driver,
            "SELECT task_id, scope, numeric_class, until_us FROM class_asks WHERE task_id IN ({marks})",
            task_ids,
        )
        return {row[0]: ClassAskRow(row[0], _ask(row[1], row[2]), row[3]) for row in rows}

    def put_asks(self, rows: Sequence[ClassAskRow]) -> None:
        """Write what tasks ask for, over what they asked before."""
        self.drop_asks([row.task_id for row in rows])
        insert_many(
            self._driver,
            "class_asks",
            "task_id, scope, numeric_class, until_us",
            [(row.task_id, row.ask.scope.value, row.ask.numeric_class, row.until_us) for row in rows],
        )

    def drop_asks(self, task_ids: Sequence[int]) -> None:
        """Forget what tasks asked for."""
        if task_ids:
            self._driver.run_many(
                "DELETE FROM class_asks WHERE task_id = ?", [(task_id,) for task_id in task_ids]
            )

    def lapsed(self, *, now_us: int, limit: int) -> list[int]:
        """Tasks whose ask has ended, the oldest first."""
        rows = self._driver.run(
            "SELECT task_id FROM class_asks WHERE until_us <= ? ORDER BY until_us, task_id LIMIT ?",
            (now_us, limit),
        )
        return [row[0] for row in rows]

    def end_asks(self, numeric_class: str, *, now_us: int) -> None:
        """Let every ask that names a class end now."""
        self._driver.run(
            "UPDATE class_asks SET until_us = ? WHERE numeric_class = ? AND until_us > ?",
            (now_us, numeric_class, now_us),
        )

    def job_asks(self, job_id: int) -> dict[Ask, int]:
        """How many ready tasks of a job ask for what."""
        rows = self._driver.run(
            "SELECT k.scope, k.numeric_class, count(*) FROM tasks AS t "
            "JOIN class_asks AS k ON k.task_id = t.task_id "
            "WHERE t.job_id = ? AND t.state = 'ready' GROUP BY k.scope, k.numeric_class",
            (job_id,),
        )
        return {_ask(row[0], row[1]): row[2] for row in rows}

    # --- faults ---------------------------------------------------------------------------------

    def faulty_programs(self, numeric_class: str) -> frozenset[str]:
        """Programs that a class is known to be wrong on."""
        rows = self._driver.run(
            "SELECT program_sha256 FROM class_faults WHERE numeric_class = ?", (numeric_class,)
        )
        return frozenset(row[0] for row in rows)

    def faulty_classes(self, program_sha256: str) -> frozenset[str]:
        """Classes that are known to be wrong on a program."""
        rows = self._driver.run(
            "SELECT numeric_class FROM class_faults WHERE program_sha256 = ?", (program_sha256,)
        )
        return frozenset(row[0] for row in rows)

    def add_fault_findings(self, rows: Sequence[FaultFindingRow], *, now_us: int) -> dict[str, int]:
        """Write findings and bring the class faults up to date; return the new ones by class."""
        ids = SqlIdBlocks(self._driver)
        insert_many(
            self._driver,
            "findings",
            _FINDING_COLUMNS,
            [
                _finding(row, finding_id, now_us)
                for row, finding_id in zip(rows, ids.next_block("finding", len(rows)), strict=True)
            ],
        )
        new: dict[str, int] = {}
        for numeric_class, program in sorted({(row.numeric_class, row.program_sha256) for row in rows}):
            vehicles, tasks = self._driver.run(
                "SELECT count(DISTINCT vehicle_id), count(DISTINCT task_id) FROM findings "
                "WHERE numeric_class = ? AND program_sha256 = ? AND finding = ?",
                (numeric_class, program, CLASS_FAULT),
            ).one()
            changed = self._driver.run(
                "UPDATE class_faults SET vehicle_count = ?, task_count = ? "
                "WHERE numeric_class = ? AND program_sha256 = ?",
                (vehicles, tasks, numeric_class, program),
            ).rowcount
            if not changed:
                [fault_id] = ids.next_block("class_fault", 1)
                insert_many(
                    self._driver,
                    "class_faults",
                    "class_fault_id, numeric_class, program_sha256, vehicle_count, task_count, found_at_us",
                    [(fault_id, numeric_class, program, vehicles, tasks, now_us)],
                )
                new[numeric_class] = vehicles
        return new

    def faults(self) -> list[ClassFault]:
        """All class faults, newest first."""
        rows = self._driver.run(
            "SELECT numeric_class, program_sha256, vehicle_count, task_count, found_at_us FROM class_faults "
            "ORDER BY class_fault_id DESC"
        )
        return [
            ClassFault(
                numeric_class=row[0],
                program_sha256=row[1],
                vehicle_count=row[2],
                task_count=row[3],
                found_at_us=row[4],
            )
            for row in rows
        ]

    def figures(self) -> list[ClassFigures]:
        """All classes in figures, the largest first; reads every attempt that was checked."""
        vehicles = {
            row[0]: row[1]
            for row in self._driver.run(
                "SELECT numeric_class, count(*) FROM fleet_vehicles WHERE state <> 'retired' "
                "GROUP BY numeric_class"
            )
        }
        checked = {row[0]: row[1:] for row in self._driver.run(_FIGURES)}
        names = sorted(vehicles.keys() | checked.keys(), key=lambda name: (-vehicles.get(name, 0), name))
        return [ClassFigures(name, vehicles.get(name, 0), *checked.get(name, (0, 0, 0))) for name in names]


def _ask(scope: str, numeric_class: str) -> Ask:
    return Ask(scope=_SCOPES[scope], numeric_class=numeric_class)


def _finding(row: FaultFindingRow, finding_id: int, now_us: int) -> tuple[Any, ...]:
    return (
        finding_id,
        row.vehicle_id,
        row.owner_id,
        row.attempt_id,
        row.task_id,
        row.job_id,
        row.task_index,
        row.kind.value,
        CLASS_FAULT,
        row.claimed_digest,
        row.accepted_digest,
        row.agreeing_owners,
        int(row.trusted_node),
        0,
        row.clawed_back_micros,
        row.numeric_class,
        row.program_sha256,
        now_us,
    )
