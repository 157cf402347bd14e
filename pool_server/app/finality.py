"""Which accepted results are final: no look-back can question them any more. Worked out on reading."""

from collections.abc import Sequence

from pool_protocol.errors import InvariantError
from pool_server.core.trust import TrustRecord, trust_class
from pool_server.core.verification.findings import PROVED
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.ports.work import TaskRow


def final_tasks(uow: UnitOfWork, tasks: Sequence[TaskRow]) -> set[int]:
    """Return the ids of those accepted tasks of one job that are final.

    A result is final when it was proved (by a trusted node or a certificate), when the level asks for no
    verification, or when none of the vehicles it rests on can be looked back at so far: each one's dispute
    window is over, or enough clean work followed.
    """
    final = {task.task_id for task in tasks if task.evidence in PROVED or not task.evidence}
    open_ids = [task.task_id for task in tasks if task.task_id not in final]
    if not open_ids:
        return final
    job = uow.jobs.get(tasks[0].job_id)
    if job is None:
        raise InvariantError(f"job {tasks[0].job_id} has tasks and is not there")
    name = trust_class(job.kind, job.level)
    through = uow.receipts.released_through()
    records: dict[str, TrustRecord] = {}
    doubtful: set[int] = set()
    for paid in uow.verification.paid(open_ids):
        if paid.receipt_id <= through:
            continue
        record = records.get(paid.vehicle_id)
        if record is None:
            record = records[paid.vehicle_id] = uow.fleet.trust(paid.vehicle_id, name)
        if not 0 < paid.odometer_uwu <= record.final_uwu:
            doubtful.add(paid.task_id)
    return final | (set(open_ids) - doubtful)
