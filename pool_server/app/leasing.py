"""Gives a vehicle its next lease: a batch of attempts at one job, funded before the car starts.

In this order: a retired vehicle is refused; quarantine and draining are told; a live lease that the vehicle
does not hold was lost on the way and is sent again as it was; then jobs are asked in the order of
`core.matching`, and the first that has tasks for this owner gives them, drawn as `core.hand_out` says.
Nothing in a lease tells an audit from other work.
"""

from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_protocol.money import work_price_micros
from pool_server.app.class_leasing import class_guest, differs_here, fitting_offers
from pool_server.app.fair_shares import note_share
from pool_server.app.hand_out import tasks_for_lease
from pool_server.app.money import fund_attempts
from pool_server.app.offers import (
    available_until,
    job_offers,
    waiting_offers,
    why_not_willing,
    willing_offers,
)
from pool_server.app.pricing import posted_price
from pool_server.app.work_commands import AttemptGrant, LeaseGranted, LeaseWork, NoWorkNow
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.fleet import LEASABLE_STATES, VEHICLE_LIFECYCLE, VehicleState, state_on_contact
from pool_server.core.hand_out import HandOutOrder, ReadyTask, TaskTake
from pool_server.core.jobs import AttemptState, LeaseState
from pool_server.core.matching import (
    LIVE_LEASES_PER_VEHICLE_MAX,
    JobOffer,
    NoWorkReason,
    TaskRank,
    asked_offers,
    lease_size,
    order_offers,
    shares_of,
)
from pool_server.core.networks import UNKNOWN_NETWORK, NetworkGuest
from pool_server.core.settlement import AttemptFunding, Payer, unresolved_expiry_us
from pool_server.core.verification import LEVELS
from pool_server.ports.classes import VehicleClass
from pool_server.ports.fleet import VehicleRow, WorkEvent
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.ports.work import AttemptRow, JobDelta, JobRow, LeaseRow

#: Ready tasks per vehicle beyond which spreading them over the fleet does not matter.
_SPREAD_BELOW = 64


def lease_work(
    uow: UnitOfWork, command: LeaseWork, *, order: HandOutOrder, policy: WorkPolicy, now_us: int
) -> LeaseGranted | NoWorkNow:
    """Grant a lease, send a lost one again, or say why there is none.

    Raises:
        PoolError: NOT_FOUND for an unknown vehicle, VEHICLE_RETIRED, INVALID_ARGUMENT for negative numbers.
    """
    if min(command.attempts_max, command.available_ms, command.reserve_price_micros_per_wu) < 0:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, "a wish for work has a negative number")
    vehicle = _contact(uow, command, now_us=now_us)
    if vehicle.state not in LEASABLE_STATES:
        return _out_of_work(vehicle, policy)
    live = uow.leases.live(vehicle.vehicle_id)
    held = frozenset(command.held_lease_ids)
    if command.attempts_max == 0:
        return _no_work(NoWorkReason.NO_WORK, "No work was asked for.", policy)
    for lease in live:
        if lease.lease_id not in held and lease.expires_at_us > now_us:
            return _send_again(uow, lease)
    if len(live) >= LIVE_LEASES_PER_VEHICLE_MAX:
        return _no_work(NoWorkReason.NO_WORK, f"The vehicle has {len(live)} leases already.", policy)
    return _lease_from_jobs(uow, command, vehicle, order=order, policy=policy, now_us=now_us)


def _contact(uow: UnitOfWork, command: LeaseWork, *, now_us: int) -> VehicleRow:
    vehicle_id = command.vehicle_id
    vehicle = uow.fleet.get(vehicle_id)
    if vehicle is None:
        raise PoolError(ErrorCode.NOT_FOUND, f"no vehicle {vehicle_id}")
    if vehicle.state is VehicleState.RETIRED:
        raise PoolError(ErrorCode.VEHICLE_RETIRED, f"{vehicle_id} was retired")
    if command.attempts_max:
        uow.market.asked(
            vehicle_id,
            price_micros_per_wu=command.reserve_price_micros_per_wu,
            available_until_us=available_until(command.available_ms, now_us=now_us),
            now_us=now_us,
        )
    else:
        uow.fleet.seen(vehicle_id, now_us=now_us)
    state = state_on_contact(vehicle.state)
    if state is vehicle.state:
        return vehicle
    _move(uow, vehicle, state, now_us=now_us)
    return vehicle._replace(state=state)


def _move(uow: UnitOfWork, vehicle: VehicleRow, state: VehicleState, *, now_us: int) -> None:
    VEHICLE_LIFECYCLE.check(vehicle.state, state, what=vehicle.vehicle_id)
    if not uow.fleet.move(vehicle.vehicle_id, from_states=[vehicle.state], to_state=state):
        raise InvariantError(f"{vehicle.vehicle_id} is not {vehicle.state} any more")
    cause = VEHICLE_LIFECYCLE.transitions[vehicle.state, state]
    uow.events.append([WorkEvent("vehicle", vehicle.vehicle_id, vehicle.state, state, cause, now_us)])


def _out_of_work(vehicle: VehicleRow, policy: WorkPolicy) -> NoWorkNow:
    if vehicle.state is VehicleState.QUARANTINED:
        return NoWorkNow(
            reason=NoWorkReason.QUARANTINED,
            message=f"This vehicle is in quarantine ({vehicle.quarantine_reason}): the pool gives it no work "
            "until an operator has looked at it.",
            retry_after_ms=policy.quarantined_retry_ms,
        )
    return NoWorkNow(
        reason=NoWorkReason.DRAINING,
        message="An operator is draining this vehicle: it gets no new work for now.",
        retry_after_ms=policy.quarantined_retry_ms,
    )


def _no_work(reason: NoWorkReason, message: str, policy: WorkPolicy) -> NoWorkNow:
    return NoWorkNow(reason=reason, message=message, retry_after_ms=policy.no_work_retry_ms)


# --- a lost lease -------------------------------------------------------------------------------


def _send_again(uow: UnitOfWork, lease: LeaseRow) -> LeaseGranted:
    job = uow.jobs.get(lease.job_id)
    if job is None:
        raise InvariantError(f"lease {lease.lease_id} is of a job that is not there")
    grants = tuple(
        AttemptGrant(
            attempt_id=grant.attempt_id,
            inputs=grant.inputs,
            steps=job.steps_per_task,
            unit_steps=job.unit_steps,
            work_uwu=job.work_uwu_per_task,
        )
        for grant in uow.attempts.grants(lease)
    )
    return _granted(uow, lease, job, grants, resent=True)


def _granted(
    uow: UnitOfWork, lease: LeaseRow, job: JobRow, grants: tuple[AttemptGrant, ...], *, resent: bool
) -> LeaseGranted:
    return LeaseGranted(
        lease_id=lease.lease_id,
        vehicle_id=lease.vehicle_id,
        job_id=lease.job_id,
        program_sha256=job.program_sha256,
        constants=uow.jobs.constants(job.job_id),
        price_micros_per_wu=lease.price_micros_per_wu,
        attempts=grants,
        issued_at_us=lease.issued_at_us,
        expires_at_us=lease.expires_at_us,
        resent=resent,
    )


# --- a new lease --------------------------------------------------------------------------------


def _lease_from_jobs(
    uow: UnitOfWork,
    command: LeaseWork,
    vehicle: VehicleRow,
    *,
    order: HandOutOrder,
    policy: WorkPolicy,
    now_us: int,
) -> LeaseGranted | NoWorkNow:
    own_class = uow.classes.of_vehicle(vehicle.vehicle_id)
    posted_micros = posted_price(uow)
    offers = fitting_offers(uow, job_offers(uow, posted_micros=posted_micros, now_us=now_us), own_class)
    willing = willing_offers(offers, reserve_micros=command.reserve_price_micros_per_wu)
    if offers and not willing:
        return _no_work(
            *why_not_willing(
                offers, posted_micros=posted_micros, reserve_micros=command.reserve_price_micros_per_wu
            ),
            policy,
        )
    waiting = waiting_offers(
        offers, posted_micros=posted_micros, reserve_micros=command.reserve_price_micros_per_wu
    )
    shares = shares_of(waiting, virtual_uwu=uow.market.virtual_uwu())
    ordered = order_offers(
        willing,
        shares=shares,
        warm_programs=command.warm_programs,
        newest_lease_id=uow.leases.newest_id(),
    )
    for offer in asked_offers(ordered, now_us=now_us):
        granted = _lease_from_job(
            uow, command, vehicle, offer, own_class, order=order, policy=policy, now_us=now_us
        )
        if granted is not None:
            work_uwu = sum(grant.work_uwu for grant in granted.attempts)
            note_share(uow, offer, shares, waiting=waiting, work_uwu=work_uwu)
            return granted
    return _no_work(
        NoWorkReason.NO_WORK,
        "No task is waiting for this vehicle." if not offers else "The tasks that wait are for other owners.",
        policy,
    )


def _lease_from_job(
    uow: UnitOfWork,
    command: LeaseWork,
    vehicle: VehicleRow,
    offer: JobOffer,
    own_class: VehicleClass,
    *,
    order: HandOutOrder,
    policy: WorkPolicy,
    now_us: int,
) -> LeaseGranted | None:
    job = uow.jobs.get(offer.job_id)
    if job is None or offer.price_micros_per_wu is None:
        raise InvariantError(f"job {offer.job_id} is offered and not there")
    if differs_here(uow, job, own_class, policy=policy):
        return None
    spread = job.ready_count < command.attempts_max * _SPREAD_BELOW
    size = lease_size(
        attempts_max=command.attempts_max,
        ready_count=job.ready_count,
        active_vehicles=uow.fleet.active_count(at_most=job.ready_count) if spread else 1,
        work_uwu=job.work_uwu_per_task,
        speed_uwu_per_s=vehicle.speed_uwu_per_s,
        available_us=command.available_ms * 1_000,
        lease_timeout_us=policy.lease_timeout_us,
    )
    tasks = tasks_for_lease(
        uow,
        job,
        owner_id=vehicle.owner_id,
        size=size,
        retry_before_us=now_us - policy.retry_same_owner_us,
        guest=class_guest(uow, job, own_class, policy=policy, now_us=now_us),
        network=NetworkGuest(
            command.network if policy.network_patience_us else UNKNOWN_NETWORK,
            now_us - policy.network_patience_us,
        ),
        order=order,
        now_us=now_us,
    )
    if not tasks:
        return None
    attempt_ids = uow.ids.next_block("attempt", len(tasks))
    lease = LeaseRow(
        lease_id=uow.ids.next_block("lease", 1)[0],
        vehicle_id=vehicle.vehicle_id,
        owner_id=vehicle.owner_id,
        job_id=job.job_id,
        state=LeaseState.LIVE,
        price_micros_per_wu=offer.price_micros_per_wu,
        first_attempt_id=attempt_ids[0],
        attempt_count=len(tasks),
        open_count=len(tasks),
        issued_at_us=now_us,
        expires_at_us=now_us + policy.lease_timeout_us,
        ended_at_us=0,
    )
    uow.leases.insert(lease)
    attempts = _attempts(
        uow, lease, job, tasks, own_class.numeric_class, network=command.network, now_us=now_us
    )
    uow.attempts.insert(attempts)
    takes = [
        TaskTake(task.task_id, attempt.payer is Payer.JOB)
        for task, attempt in zip(tasks, attempts, strict=True)
    ]
    if uow.tasks.take(takes) != len(tasks):
        raise InvariantError("a task was ready and is not")
    running = [task for task in tasks if task.wanted == 1]
    uow.jobs.add(
        job.job_id,
        JobDelta(
            ready_count=-len(running),
            urgent_count=-sum(1 for task in running if task.rank == TaskRank.WAITED_FOR),
            attempt_count=len(tasks),
            last_lease_id=lease.lease_id,
        ),
    )
    uow.events.append([WorkEvent("lease", str(lease.lease_id), "", LeaseState.LIVE, "granted", now_us)])
    if vehicle.state is VehicleState.AVAILABLE:
        _move(uow, vehicle, VehicleState.LEASED, now_us=now_us)
    grants = tuple(
        AttemptGrant(
            attempt_id=attempt.attempt_id,
            inputs=task.inputs,
            steps=job.steps_per_task,
            unit_steps=job.unit_steps,
            work_uwu=job.work_uwu_per_task,
        )
        for task, attempt in zip(tasks, attempts, strict=True)
    )
    return _granted(uow, lease, job, grants, resent=False)


def _attempts(
    uow: UnitOfWork,
    lease: LeaseRow,
    job: JobRow,
    tasks: list[ReadyTask],
    numeric_class: str,
    *,
    network: str,
    now_us: int,
) -> list[AttemptRow]:
    """Make the attempts' rows, funded: by the job up to its quorum, beyond it by the pool."""
    quorum = LEVELS[job.level].quorum
    amount_micros = work_price_micros(job.work_uwu_per_task, lease.price_micros_per_wu)
    payers = [Payer.JOB if task.job_funded_count < quorum else Payer.VERIFICATION for task in tasks]
    first = lease.first_attempt_id
    pendings = fund_attempts(
        uow,
        [
            AttemptFunding(
                attempt_id=first + offset,
                owner_id=lease.owner_id,
                job_id=job.job_id,
                amount_micros=amount_micros,
                payer=payer,
            )
            for offset, payer in enumerate(payers)
        ],
        expires_at_us=unresolved_expiry_us(lease.expires_at_us),
        now_us=now_us,
    )
    return [
        AttemptRow(
            first + offset,
            task.task_id,
            lease.lease_id,
            job.job_id,
            task.task_index,
            lease.vehicle_id,
            lease.owner_id,
            AttemptState.LEASED,
            payers[offset],
            lease.price_micros_per_wu,
            amount_micros,
            pendings[offset],
            b"",
            "",
            now_us,
            0,
            0,
            numeric_class,
            network=network,
        )
        for offset, task in enumerate(tasks)
    ]
