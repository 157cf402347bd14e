"""Numeric classes as use cases: a vehicle's probe, asks that nobody answered, the operator's list."""

from dataclasses import dataclass

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.numeric import Probe
from pool_server.app.quarantine import settle_board
from pool_server.app.task_board import TaskBoard
from pool_server.app.work_policy import BlobReader, WorkPolicy
from pool_server.core.verification.classes import UNKNOWN_CLASS, Ask, ClassFault, Scope
from pool_server.ports.classes import ClassFigures
from pool_server.ports.fleet import WorkEvent
from pool_server.ports.unit_of_work import UnitOfWork

#: Tasks whose asks are looked at in one sweep.
ASKS_PER_SWEEP = 500


def note_probe(uow: UnitOfWork, *, vehicle_id: str, probe: Probe, now_us: int) -> str:
    """Note what a vehicle's probe found; return its numeric class. The same again changes nothing.

    A vehicle whose class changes (a new driver, library or processor) keeps half of every history.

    Raises:
        PoolError: NOT_FOUND.
    """
    vehicle = uow.fleet.get(vehicle_id)
    if vehicle is None:
        raise PoolError(ErrorCode.NOT_FOUND, f"no vehicle {vehicle_id}")
    before, after = uow.classes.of_vehicle(vehicle_id).numeric_class, probe.class_id
    if before == after:
        return after
    uow.classes.set_class(vehicle_id, numeric_class=after, probe_json=probe.to_json().decode("ascii"))
    cause = f"its numeric class is {after}"
    if before != UNKNOWN_CLASS:
        cause = f"its numeric class changes from {before} to {after}: half of its history counts on"
        for trust_class, record in uow.classes.histories(vehicle_id).items():
            uow.fleet.put_trust(vehicle_id, trust_class, record.halved())
    uow.events.append([WorkEvent("vehicle", vehicle_id, vehicle.state, vehicle.state, cause, now_us)])
    return after


def settle_class_asks(
    uow: UnitOfWork, *, policy: WorkPolicy, now_us: int, blobs: BlobReader | None = None
) -> int:
    """Judge again the tasks that asked for a class from which nobody came in time. Returns how many."""
    task_ids = uow.classes.lapsed(now_us=now_us, limit=ASKS_PER_SWEEP)
    if not task_ids:
        return 0
    board = TaskBoard(uow, policy=policy, blobs=blobs, now_us=now_us)
    board.load(uow.attempts.of_tasks(task_ids))
    for task in list(board.tasks.values()):
        board.resolve(task)
    settle_board(board)
    # What still has an old ask is decided, or of no known class any more: nobody waits for it.
    left = uow.classes.asks(task_ids).values()
    uow.classes.drop_asks([row.task_id for row in left if row.until_us <= now_us])
    return len(task_ids)


def waiting_for_another_class(uow: UnitOfWork, job_id: int, *, program_sha256: str) -> int:
    """Return how many ready tasks of a job ask for a class from which no vehicle is at work."""
    asks = uow.classes.job_asks(job_id)
    if not asks:
        return 0
    faulty = uow.classes.faulty_classes(program_sha256)
    return sum(count for ask, count in asks.items() if not _can_come(uow, ask, faulty))


def _can_come(uow: UnitOfWork, ask: Ask, faulty: frozenset[str]) -> bool:
    if ask.scope is Scope.WITHIN:
        return ask.numeric_class in uow.classes.owners(at_most=1)
    return uow.classes.has_other(ask.numeric_class, owner_id="", but=faulty)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassList:
    """What an operator sees of numeric classes."""

    classes: tuple[ClassFigures, ...]
    faults: tuple[ClassFault, ...]


def list_classes(uow: UnitOfWork) -> ClassList:
    """Return all classes in figures and all class faults."""
    return ClassList(classes=tuple(uow.classes.figures()), faults=tuple(uow.classes.faults()))
