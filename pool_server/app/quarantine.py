"""Puts a vehicle out of the work, by quarantine or for good; what it had in hand goes to others."""

from pool_protocol.errors import InvariantError
from pool_server.app.board_flush import flush
from pool_server.app.task_board import TaskBoard
from pool_server.app.work_policy import BlobReader, WorkPolicy
from pool_server.core.effects import VehicleQuarantined
from pool_server.core.fleet import VEHICLE_LIFECYCLE, VehicleState
from pool_server.core.jobs import LeaseState
from pool_server.ports.fleet import VehicleRow, WorkEvent
from pool_server.ports.unit_of_work import UnitOfWork

QUARANTINED = "QUARANTINED"
VEHICLE_RETIRED = "VEHICLE_RETIRED"


def settle_board(board: TaskBoard) -> None:
    """Write a board, then put the vehicles that it caught into quarantine, until nobody is caught."""
    for suspect in flush(board):
        vehicle = board.uow.fleet.get(suspect.vehicle_id)
        if vehicle is None:
            raise InvariantError(f"{suspect.vehicle_id} had results and is not there")
        if VEHICLE_LIFECYCLE.allows(vehicle.state, VehicleState.QUARANTINED):
            put_in_quarantine(
                board.uow,
                vehicle,
                reason=suspect.reason,
                policy=board.policy,
                blobs=board.blobs,
                now_us=board.now_us,
            )


def put_in_quarantine(
    uow: UnitOfWork,
    vehicle: VehicleRow,
    *,
    reason: str,
    policy: WorkPolicy,
    blobs: BlobReader | None,
    now_us: int,
) -> None:
    """Take a vehicle out of the work; its open attempts are cancelled, its unjudged results do not count."""
    _move(uow, vehicle, VehicleState.QUARANTINED, cause=reason, quarantine_reason=reason, now_us=now_us)
    uow.effects.append(
        VehicleQuarantined(vehicle_id=vehicle.vehicle_id, owner_id=vehicle.owner_id, reason=reason)
    )
    empty_hands(uow, vehicle.vehicle_id, reason=QUARANTINED, policy=policy, blobs=blobs, now_us=now_us)


def put_out_of_pool(
    uow: UnitOfWork, vehicle: VehicleRow, *, policy: WorkPolicy, blobs: BlobReader | None, now_us: int
) -> None:
    """Retire a vehicle for good. What was verified stays its owner's; what was not goes to others."""
    _move(
        uow,
        vehicle,
        VehicleState.RETIRED,
        cause="its owner retires it",
        quarantine_reason=vehicle.quarantine_reason,
        now_us=now_us,
    )
    empty_hands(uow, vehicle.vehicle_id, reason=VEHICLE_RETIRED, policy=policy, blobs=blobs, now_us=now_us)


def empty_hands(
    uow: UnitOfWork,
    vehicle_id: str,
    *,
    reason: str,
    policy: WorkPolicy,
    blobs: BlobReader | None,
    now_us: int,
) -> None:
    """Drop every undecided attempt of a vehicle, end its leases, and judge the tasks again without them."""
    board = TaskBoard(uow, policy=policy, blobs=blobs, now_us=now_us)
    rows = uow.attempts.undecided_of_vehicle(vehicle_id)
    board.load(rows)
    for row in rows:
        attempt = board.attempts[row.attempt_id]
        # Questioned results were accepted once: others compute them again, whatever became of their vehicle.
        if attempt.questioned is None:
            board.drop(attempt, reason=reason)
    for lease in uow.leases.live(vehicle_id):
        board.lease_ends[lease.lease_id] = LeaseState.CANCELLED
    for task in list(board.tasks.values()):
        board.resolve(task)
    settle_board(board)


def _move(
    uow: UnitOfWork,
    vehicle: VehicleRow,
    target: VehicleState,
    *,
    cause: str,
    quarantine_reason: str,
    now_us: int,
) -> None:
    VEHICLE_LIFECYCLE.require(vehicle.state, target, what=vehicle.vehicle_id)
    if not uow.fleet.move(
        vehicle.vehicle_id,
        from_states=[vehicle.state],
        to_state=target,
        quarantine_reason=quarantine_reason,
    ):
        raise InvariantError(f"{vehicle.vehicle_id} is not {vehicle.state} any more")
    uow.events.append([WorkEvent("vehicle", vehicle.vehicle_id, vehicle.state, target, cause, now_us)])
