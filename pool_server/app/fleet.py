"""Vehicles as the pool sees them: register, retire, quarantine, drain, look. Identity is elsewhere."""

from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_protocol.limits import NAME_CHARACTERS_MAX
from pool_server.app.quarantine import put_in_quarantine, put_out_of_pool
from pool_server.app.work_commands import FleetPage, VehicleViewValue, WorkOverview
from pool_server.app.work_policy import BlobReader, WorkPolicy
from pool_server.core.effects import WorkAvailable
from pool_server.core.fleet import VEHICLE_LIFECYCLE, VehicleState
from pool_server.ports.fleet import VehicleRow, WorkEvent
from pool_server.ports.unit_of_work import UnitOfWork


def register_vehicle(uow: UnitOfWork, *, vehicle_id: str, owner_id: str, label: str, now_us: int) -> None:
    """Let a newly enrolled vehicle into the fleet; again changes nothing.

    Raises:
        PoolError: EXISTS_WITH_DIFFERENT when it belongs to another owner.
    """
    existing = uow.fleet.get(vehicle_id)
    if existing is not None:
        if existing.owner_id != owner_id:
            raise PoolError(ErrorCode.EXISTS_WITH_DIFFERENT, f"{vehicle_id} belongs to another owner")
        return
    uow.fleet.insert(
        VehicleRow(
            vehicle_id,
            owner_id,
            label[:NAME_CHARACTERS_MAX],
            VEHICLE_LIFECYCLE.initial,
            enrolled_at_us=now_us,
            last_seen_us=0,
            verified_attempts=0,
            rejected_attempts=0,
            abandoned_attempts=0,
            rejected_since_release=0,
            speed_uwu_per_s=0,
            quarantine_reason="",
        )
    )
    uow.events.append([WorkEvent("vehicle", vehicle_id, "", VEHICLE_LIFECYCLE.initial, "enrolled", now_us)])


def retire_vehicle(
    uow: UnitOfWork, *, vehicle_id: str, policy: WorkPolicy, now_us: int, blobs: BlobReader | None = None
) -> None:
    """Take a vehicle out of the pool for good; its open attempts go to others. Again changes nothing.

    Raises:
        PoolError: NOT_FOUND.
    """
    vehicle = _vehicle(uow, vehicle_id)
    if vehicle.state is not VehicleState.RETIRED:
        put_out_of_pool(uow, vehicle, policy=policy, blobs=blobs, now_us=now_us)


def set_quarantine(
    uow: UnitOfWork,
    *,
    vehicle_id: str,
    quarantined: bool,
    reason: str,
    policy: WorkPolicy,
    now_us: int,
    blobs: BlobReader | None = None,
) -> None:
    """Put a vehicle in quarantine, or free it with a clean slate. Again changes nothing.

    Raises:
        PoolError: NOT_FOUND; INVALID_ARGUMENT for a quarantine without a reason; INVALID_STATE for a retired
            vehicle.
    """
    vehicle = _vehicle(uow, vehicle_id)
    if quarantined:
        if not reason:
            raise PoolError(
                ErrorCode.INVALID_ARGUMENT, "a quarantine needs a reason", context={"field": "reason"}
            )
        if vehicle.state is not VehicleState.QUARANTINED:
            VEHICLE_LIFECYCLE.require(vehicle.state, VehicleState.QUARANTINED, what=vehicle_id)
            put_in_quarantine(uow, vehicle, reason=reason, policy=policy, blobs=blobs, now_us=now_us)
    elif vehicle.state is VehicleState.QUARANTINED:
        _move(uow, vehicle, VehicleState.AVAILABLE, cause=reason or "an operator frees it", now_us=now_us)
        uow.effects.append(WorkAvailable())
    elif vehicle.state is VehicleState.RETIRED:
        VEHICLE_LIFECYCLE.require(vehicle.state, VehicleState.AVAILABLE, what=vehicle_id)


def set_draining(uow: UnitOfWork, *, vehicle_id: str, draining: bool, now_us: int) -> None:
    """Give a vehicle no new leases, or end that; what it computes now still counts. Again changes nothing.

    Raises:
        PoolError: NOT_FOUND; INVALID_STATE for one in quarantine or retired.
    """
    vehicle = _vehicle(uow, vehicle_id)
    if draining and vehicle.state is not VehicleState.DRAINING:
        VEHICLE_LIFECYCLE.require(vehicle.state, VehicleState.DRAINING, what=vehicle_id)
        _move(uow, vehicle, VehicleState.DRAINING, cause="an operator drains it", now_us=now_us)
    elif not draining and vehicle.state is VehicleState.DRAINING:
        _move(uow, vehicle, VehicleState.AVAILABLE, cause="an operator ends the draining", now_us=now_us)
        uow.effects.append(WorkAvailable())


def set_trusted(uow: UnitOfWork, *, vehicle_id: str, trusted: bool, now_us: int) -> None:
    """Make a vehicle a trusted node, whose results are the pool's word, or an ordinary one again.

    Raises:
        PoolError: NOT_FOUND; INVALID_STATE for a retired vehicle.
    """
    vehicle = _vehicle(uow, vehicle_id)
    if vehicle.state is VehicleState.RETIRED:
        raise PoolError(ErrorCode.INVALID_STATE, f"{vehicle_id} was retired", context={"state": "retired"})
    if vehicle.trusted == trusted:
        return
    if not uow.fleet.set_trusted(vehicle_id, trusted=trusted):
        raise InvariantError(f"{vehicle_id} is not there any more")
    cause = "an operator trusts it" if trusted else "an operator trusts it no longer"
    uow.events.append([WorkEvent("vehicle", vehicle_id, vehicle.state, vehicle.state, cause, now_us)])


def rename_vehicle(uow: UnitOfWork, *, vehicle_id: str, label: str) -> None:
    """Give a vehicle the name that its owner chose.

    Raises:
        PoolError: NOT_FOUND; INVALID_ARGUMENT when the name is empty or too long.
    """
    if not 1 <= len(label) <= NAME_CHARACTERS_MAX:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"a name has 1 to {NAME_CHARACTERS_MAX} characters",
            context={"field": "label"},
        )
    if not uow.fleet.set_label(vehicle_id, label):
        raise PoolError(ErrorCode.NOT_FOUND, f"no vehicle {vehicle_id}")


def get_vehicle(uow: UnitOfWork, *, vehicle_id: str) -> VehicleViewValue:
    """Return a vehicle in figures.

    Raises:
        PoolError: NOT_FOUND.
    """
    return _views(uow, [_vehicle(uow, vehicle_id)])[0]


def list_vehicles(
    uow: UnitOfWork,
    *,
    owner_id: str | None = None,
    state: VehicleState | None = None,
    after_vehicle_id: str = "",
    limit: int = 100,
) -> FleetPage:
    """Return a page of an owner's vehicles, or of all (None), by id."""
    vehicles = uow.fleet.page(
        owner_id=owner_id, state=state, after_vehicle_id=after_vehicle_id, limit=limit + 1
    )
    shown = vehicles[:limit]
    more = len(vehicles) > limit
    return FleetPage(
        vehicles=tuple(_views(uow, shown)),
        next_after_vehicle_id=shown[-1].vehicle_id if more else "",
    )


def overview(uow: UnitOfWork) -> WorkOverview:
    """Return the work of the pool in figures."""
    return WorkOverview(
        vehicles_by_state=uow.fleet.counts_by_state(),
        jobs_by_state=uow.jobs.counts_by_state(),
        attempts_by_state=uow.attempts.counts_by_state(),
        tasks_accepted=uow.jobs.tasks_accepted(),
    )


def _vehicle(uow: UnitOfWork, vehicle_id: str) -> VehicleRow:
    vehicle = uow.fleet.get(vehicle_id)
    if vehicle is None:
        raise PoolError(ErrorCode.NOT_FOUND, f"no vehicle {vehicle_id}")
    return vehicle


def _move(uow: UnitOfWork, vehicle: VehicleRow, state: VehicleState, *, cause: str, now_us: int) -> None:
    if not uow.fleet.move(
        vehicle.vehicle_id,
        from_states=[vehicle.state],
        to_state=state,
        forgive=vehicle.state is VehicleState.QUARANTINED,
    ):
        raise InvariantError(f"{vehicle.vehicle_id} is not {vehicle.state} any more")
    uow.events.append([WorkEvent("vehicle", vehicle.vehicle_id, vehicle.state, state, cause, now_us)])


def _views(uow: UnitOfWork, vehicles: list[VehicleRow]) -> list[VehicleViewValue]:
    vehicle_ids = [vehicle.vehicle_id for vehicle in vehicles]
    running = uow.fleet.running_attempts(vehicle_ids)
    clean = uow.fleet.clean_uwu(vehicle_ids)
    return [
        VehicleViewValue(
            vehicle_id=vehicle.vehicle_id,
            owner_id=vehicle.owner_id,
            label=vehicle.label,
            state=vehicle.state,
            enrolled_at_us=vehicle.enrolled_at_us,
            last_seen_us=vehicle.last_seen_us,
            verified_attempts=vehicle.verified_attempts,
            rejected_attempts=vehicle.rejected_attempts,
            abandoned_attempts=vehicle.abandoned_attempts,
            running_attempts=running.get(vehicle.vehicle_id, 0),
            clean_uwu=clean.get(vehicle.vehicle_id, 0),
            quarantine_reason=vehicle.quarantine_reason,
            trusted=vehicle.trusted,
            numeric_class=vehicle.numeric_class,
        )
        for vehicle in vehicles
    ]
