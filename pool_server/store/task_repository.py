"""Tasks in SQL: the queue of ready ones, guarded changes in bulk, results for buyers."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

from pool_server.core.fleet import ACTIVE_STATES
from pool_server.core.hand_out import ReadyTask, StartedTask, TaskTake, seeks
from pool_server.core.jobs import TaskState, TensorRef
from pool_server.core.matching import TaskRank
from pool_server.core.networks import NetworkGuest
from pool_server.ports.classes import ClassGuest
from pool_server.ports.work import DecidedRow, NewTaskRow, TaskRow
from pool_server.store.driver import Driver
from pool_server.store.statements import fetch_in, insert_many, marks, set_from_values, write_rows
from pool_server.store.tables.work import JOB_HAS_READY_TASKS

#: Started tasks looked at per lease when an owner has attempts on many of them: bounds a lease's cost. Other
#: owners work from the same end of the queue, so what hides behind them comes up as they go.
STARTED_SCAN_MAX = 4_096

_STATES = {state.value: state for state in TaskState}
_COLUMNS = (
    "task_id, job_id, task_index, state, rank, wanted, agreement_needed, attempt_count, live_count, "
    "failure_count, job_funded_count, decided_seq, canonical_attempt_id, cost_micros, reason, detail, "
    "decided_at_us, evidence, replaced_count"
)
_COLUMN_COUNT = 19
_TASK_ALIAS_COLUMNS = ", ".join(f"t.{column.strip()}" for column in _COLUMNS.split(","))
_READY_COLUMNS = (
    "t.task_id, t.task_index, t.rank, t.wanted, t.job_funded_count, i.inline, i.blob_sha256, i.size_bytes"
)
_STARTED = (
    "SELECT t.task_id, EXISTS (SELECT 1 FROM attempts AS a WHERE a.task_id = t.task_id AND a.counting = 1 "
    "AND a.state = 'returned' AND a.ended_at_us < ?) FROM (SELECT task_id, rank FROM tasks "
    f"WHERE job_id = ? AND state = 'ready' AND rank < {TaskRank.FRESH.value} "
    f"ORDER BY rank, task_id LIMIT {STARTED_SCAN_MAX}) AS t "
    "WHERE NOT EXISTS (SELECT 1 FROM attempts AS a "
    "WHERE a.task_id = t.task_id AND a.owner_id = ? AND a.counting = 1) "
    "AND NOT EXISTS (SELECT 1 FROM attempts AS a "
    "WHERE a.task_id = t.task_id AND a.owner_id = ? AND a.counting = 0 AND a.ended_at_us > ?) "
    "ORDER BY t.rank, t.task_id LIMIT ?"
)
#: For vehicles of a known class: not what asks for others (1), not what is too unlike to compare with (2).
_NOT_ASKED = (
    "AND NOT EXISTS (SELECT 1 FROM class_asks AS k WHERE k.task_id = t.task_id AND k.until_us > ? AND "
    "((k.scope = 'across' AND k.numeric_class = ?) OR (k.scope = 'within' AND k.numeric_class <> ?))) "
)
_NOT_UNLIKE = (
    "AND NOT EXISTS (SELECT 1 FROM attempts AS a WHERE a.task_id = t.task_id AND a.counting = 1 "
    "AND (a.ended_at_us = 0 OR a.ended_at_us > ?) AND a.numeric_class IN ({marks})) "
)
#: For vehicles of a known network: not what another of it computes, or has computed a short while ago.
_NOT_NEIGHBOURS = (
    "AND NOT EXISTS (SELECT 1 FROM attempts AS a WHERE a.task_id = t.task_id AND a.counting = 1 "
    "AND a.network = ? AND (a.ended_at_us = 0 OR a.ended_at_us > ?)) "
)
_BEFORE_ORDER = "ORDER BY t.rank, t.task_id LIMIT ?"
_READY = (
    f"SELECT {_READY_COLUMNS} FROM tasks AS t JOIN task_inputs AS i ON i.task_id = t.task_id "
    "WHERE t.task_id IN ({marks})"
)
#: A job's fresh tasks by id. The index is named: by the table's own order a seek would read others' tasks.
_FRESH = (
    "SELECT t.task_id FROM tasks AS t INDEXED BY tasks_ready "
    f"WHERE t.job_id = ? AND t.state = 'ready' AND t.rank = {TaskRank.FRESH.value} "
)
_FRESH_FIRST = _FRESH + "ORDER BY t.task_id LIMIT ?"
_FRESH_LAST = _FRESH + "ORDER BY t.task_id DESC LIMIT 1"
_FRESH_FROM = (
    f"SELECT ({_FRESH} AND t.task_id >= p.column1 ORDER BY t.task_id LIMIT 1) FROM (VALUES {{rows}}) AS p"
)
_OUT_OF_OWNERS = (
    "SELECT t.task_id FROM jobs AS j JOIN tasks AS t ON t.job_id = j.job_id "
    f"WHERE j.urgent_count > 0 AND j.{JOB_HAS_READY_TASKS.replace('state', 'j.state')} "
    f"AND t.state = 'ready' AND t.rank = {TaskRank.WAITED_FOR.value} AND t.live_count = 0 "
    "AND t.agreement_needed > 2 AND NOT EXISTS (SELECT 1 FROM fleet_vehicles AS v "
    f"WHERE v.state IN ({', '.join(repr(state.value) for state in ACTIVE_STATES)}) "
    "AND NOT EXISTS (SELECT 1 FROM attempts AS a "
    "WHERE a.task_id = t.task_id AND a.owner_id = v.owner_id AND a.counting = 1)) LIMIT ?"
)
_TAKE = (
    "UPDATE tasks SET wanted = wanted - 1, live_count = live_count + 1, attempt_count = attempt_count + 1, "
    "job_funded_count = job_funded_count + new.column2, "
    "state = CASE WHEN wanted = 1 THEN 'running' ELSE 'ready' END, "
    f"rank = CASE WHEN rank < {TaskRank.STARTED.value} THEN rank ELSE {TaskRank.STARTED.value} END "
    "FROM (VALUES {rows}) AS new "
    "WHERE task_id = new.column1 AND state = 'ready'"
)
_CHANGED_COLUMNS = (
    "state",
    "rank",
    "wanted",
    "agreement_needed",
    "live_count",
    "failure_count",
    "job_funded_count",
    "decided_seq",
    "canonical_attempt_id",
    "cost_micros",
    "reason",
    "detail",
    "decided_at_us",
    "evidence",
    "replaced_count",
)
_CHANGE = (
    f"UPDATE tasks SET {set_from_values(_CHANGED_COLUMNS, first=2)} FROM (VALUES {{rows}}) AS new "
    "WHERE task_id = new.column1 AND state IN ('ready', 'running')"
)
_REOPEN = _CHANGE.replace("state IN ('ready', 'running')", "state = 'accepted'")
_RESULT = (
    f"SELECT {_TASK_ALIAS_COLUMNS}, a.output_digest, o.inline, o.blob_sha256, o.size_bytes FROM tasks AS t "
    "LEFT JOIN attempts AS a ON a.attempt_id = t.canonical_attempt_id "
    "LEFT JOIN attempt_outputs AS o ON o.attempt_id = t.canonical_attempt_id "
)


class SqlTaskRepository:
    """Implements `ports.work.TaskRepository`."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    def insert(self, job_id: int, tasks: Sequence[NewTaskRow]) -> None:
        """Insert ready tasks with their inputs."""
        fresh = TaskRank.FRESH.value
        insert_many(
            self._driver,
            "tasks",
            _COLUMNS,
            [(t.task_id, job_id, t.task_index, "ready", fresh, t.wanted, t.wanted, *_NEW) for t in tasks],
        )
        insert_many(
            self._driver,
            "task_inputs",
            "task_id, inline, blob_sha256, size_bytes, input_sha256",
            [
                (t.task_id, t.inputs.inline, t.inputs.blob_sha256, t.inputs.size_bytes, t.input_sha256)
                for t in tasks
            ],
        )

    def input_hashes(self, job_id: int, *, first_index: int, count: int) -> list[bytes]:
        """Input hashes of the tasks that exist in a range of indexes, in order."""
        rows = self._driver.run(
            "SELECT i.input_sha256 FROM tasks AS t JOIN task_inputs AS i ON i.task_id = t.task_id "
            "WHERE t.job_id = ? AND t.task_index >= ? AND t.task_index < ? ORDER BY t.task_index",
            (job_id, first_index, first_index + count),
        )
        return [row[0] for row in rows]

    def get(self, task_ids: Sequence[int]) -> dict[int, TaskRow]:
        """Read tasks by id."""
        rows = fetch_in(
            self._driver,
            f"SELECT {_COLUMNS} FROM tasks WHERE task_id IN ({{marks}})",
            task_ids,
        )
        return {row[0]: _task(row) for row in rows}

    def started(
        self,
        job_id: int,
        *,
        owner_id: str,
        retry_before_us: int,
        overdue_before_us: int,
        limit: int,
        guest: ClassGuest | None = None,
        network: NetworkGuest | None = None,
    ) -> list[StartedTask]:
        """Ready tasks of a job that have had an attempt and that an owner may be given, by (rank, id)."""
        query, wishes = _started(guest, network)
        rows = self._driver.run(
            query, (overdue_before_us, job_id, owner_id, owner_id, retry_before_us, *wishes, limit)
        )
        return [StartedTask(row[0], bool(row[1])) for row in rows]

    def fresh(self, job_id: int, *, places: Sequence[float], share: float = 1.0) -> list[int]:
        """Ready tasks of a job that have had no attempt, one for each place if there are as many."""
        if not places:
            return []
        oldest = [row[0] for row in self._driver.run(_FRESH_FIRST, (job_id, len(places)))]
        if len(oldest) < len(places):
            return oldest
        last = self._driver.run(_FRESH_LAST, (job_id,)).scalar_one()
        sought = seeks(first=oldest[0], last=last, share=share, chances=places)
        statement = _FRESH_FROM.format(rows=",".join(["(?)"] * len(places)))
        rows = self._driver.run(statement, (job_id, *sought.task_ids))
        found = [row[0] for row in rows if row[0] < sought.end]
        return list(islice(dict.fromkeys([*found, *oldest]), len(places)))

    def ready(self, task_ids: Sequence[int]) -> list[ReadyTask]:
        """Read ready tasks with their inputs, in the order of the ids."""
        tasks = {
            row[0]: ReadyTask._make(
                (*row[:5], TensorRef(inline=row[5], blob_sha256=row[6], size_bytes=row[7]))
            )
            for row in fetch_in(self._driver, _READY, task_ids)
        }
        return [tasks[task_id] for task_id in task_ids]

    def waiting_for_others(self, job_id: int, *, owner_ids: Sequence[str]) -> int:
        """Ready tasks of a job with a result that waits, on which each of these owners has had its turn."""
        statement = (
            "SELECT count(*) FROM (SELECT task_id FROM tasks "
            f"WHERE job_id = ? AND state = 'ready' AND rank < {TaskRank.FRESH.value} "
            f"ORDER BY rank, task_id LIMIT {STARTED_SCAN_MAX}) AS t "
            "WHERE EXISTS (SELECT 1 FROM attempts AS a "
            "WHERE a.task_id = t.task_id AND a.counting = 1 AND a.state = 'returned') "
            "AND (SELECT count(*) FROM attempts AS a WHERE a.task_id = t.task_id AND a.counting = 1 "
            f"AND a.owner_id IN ({marks(len(owner_ids))})) = ?"
        )
        return int(self._driver.run(statement, (job_id, *owner_ids, len(owner_ids))).scalar_one())

    def out_of_owners(self, *, limit: int) -> list[int]:
        """Ready tasks that wait for several auditors, on which every owner that is there had its turn."""
        rows = self._driver.run(_OUT_OF_OWNERS, (limit,))
        return [row[0] for row in rows]

    def take(self, takes: Sequence[TaskTake]) -> int:
        """READY: one wanted less, one live more; RUNNING when none is wanted any more. Rows changed."""
        return write_rows(self._driver, _TAKE, [(task_id, int(by_job)) for task_id, by_job in takes])

    def change(self, rows: Sequence[TaskRow]) -> int:
        """Write tasks that were READY or RUNNING. Rows changed."""
        return write_rows(self._driver, _CHANGE, [_changed(row) for row in rows])

    def reopen(self, rows: Sequence[TaskRow]) -> int:
        """Write tasks that were ACCEPTED and are READY again. Rows changed."""
        return write_rows(self._driver, _REOPEN, [_changed(row) for row in rows])

    def end_undecided(self, job_id: int, *, state: TaskState, reason: str, seq_base: int, now_us: int) -> int:
        """READY or RUNNING -> CANCELLED or FAILED for all tasks of a job, cursors `seq_base` + index + 1."""
        result = self._driver.run(
            "UPDATE tasks SET state = ?, wanted = 0, live_count = 0, job_funded_count = 0, reason = ?, "
            "decided_seq = ? + task_index + 1, decided_at_us = ? "
            "WHERE job_id = ? AND state IN ('ready', 'running')",
            (state.value, reason, seq_base, now_us, job_id),
        )
        return result.rowcount

    def decided_after(self, job_id: int, *, after_seq: int, limit: int) -> list[DecidedRow]:
        """Tasks decided after a cursor, in order of decision."""
        rows = self._driver.run(
            _RESULT + "WHERE t.job_id = ? AND t.decided_seq > 0 AND t.decided_seq > ? "
            "ORDER BY t.decided_seq LIMIT ?",
            (job_id, after_seq, limit),
        )
        return [_decided(row) for row in rows]

    def results(self, job_id: int, indexes: Sequence[int]) -> dict[int, DecidedRow]:
        """Tasks by index, with their canonical outputs where accepted."""
        rows = fetch_in(
            self._driver,
            _RESULT + "WHERE t.job_id = ? AND t.task_index IN ({marks})",
            indexes,
            before=(job_id,),
        )
        return {row[2]: _decided(row) for row in rows}


def _started(guest: ClassGuest | None, network: NetworkGuest | None) -> tuple[str, tuple[Any, ...]]:
    """Return the query of started tasks, and what the guest's class and network add to its parameters."""
    more, wishes = "", []
    if guest is not None:
        # A trusted node may confirm every class, and is a witness for its own alone.
        itself = "" if guest.trusted else guest.numeric_class
        more, wishes = _NOT_ASKED, [guest.now_us, itself, guest.numeric_class]
        if guest.unlike:
            more += _NOT_UNLIKE.format(marks=marks(len(guest.unlike)))
            wishes += [guest.ended_after_us, *guest.unlike]
    if network is not None and network.network:
        more += _NOT_NEIGHBOURS
        wishes += list(network)
    return _STARTED.replace(_BEFORE_ORDER, more + _BEFORE_ORDER), tuple(wishes)


#: attempt_count to replaced_count of a new task.
_NEW = (0, 0, 0, 0, 0, 0, 0, "", "", 0, "", 0)


def _changed(row: TaskRow) -> tuple[Any, ...]:
    return (
        row.task_id,
        row.state.value,
        row.rank,
        row.wanted,
        row.agreement_needed,
        row.live_count,
        row.failure_count,
        row.job_funded_count,
        row.decided_seq,
        row.canonical_attempt_id,
        row.cost_micros,
        row.reason,
        row.detail,
        row.decided_at_us,
        row.evidence,
        row.replaced_count,
    )


def _task(row: Any) -> TaskRow:
    return TaskRow(row[0], row[1], row[2], _STATES[row[3]], *row[4:_COLUMN_COUNT])


def _decided(row: Any) -> DecidedRow:
    digest, inline, blob_sha256, size_bytes = row[_COLUMN_COUNT : _COLUMN_COUNT + 4]
    if digest is None:
        return DecidedRow(_task(row), b"", None)
    outputs = TensorRef(inline=inline, blob_sha256=blob_sha256, size_bytes=size_bytes)
    return DecidedRow(_task(row), digest, outputs)
