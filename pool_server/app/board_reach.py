"""How much agreement a task can still reach, once every owner that is there has computed it.

Several auditors are asked where some may be in league; so many agreeing owners may then not exist, because
some of those that were counted err or lie. Rather than wait for nobody, the task is content with its largest
group, if that is larger than every other and has at least two owners. A result that a look-back questions
needs somebody besides those that vouched for it before.
"""

from typing import TYPE_CHECKING

from pool_server.core.comparison import agreement_groups
from pool_server.core.jobs import COUNTING_ATTEMPT_STATES
from pool_server.core.verification import AUDITED_AGREEMENT, TaskStanding

if TYPE_CHECKING:
    from pool_server.app.task_board import BoardTask, TaskBoard


def reachable_agreement(board: "TaskBoard", task: "BoardTask", standing: TaskStanding) -> int:
    """Return how many agreeing owners a task that waits for more should need: fewer if nobody is left."""
    needed = standing.agreement_needed
    if needed <= AUDITED_AGREEMENT or standing.live_count or _somebody_is_left(board, task):
        return needed
    groups = agreement_groups(task.job.comparator, standing.returned, board.outputs_of)
    groups.sort(key=lambda group: -group.owner_count())
    if not groups or (len(groups) > 1 and groups[0].owner_count() == groups[1].owner_count()):
        return needed
    fresh = any(task.attempts[member.attempt_id].questioned is None for member in groups[0].members)
    return max(AUDITED_AGREEMENT, groups[0].owner_count()) if fresh else needed


def _somebody_is_left(board: "TaskBoard", task: "BoardTask") -> bool:
    had_their_turn = {
        attempt.row.owner_id for attempt in task.attempts.values() if attempt.state in COUNTING_ATTEMPT_STATES
    }
    active = board.uow.fleet.active_owners(at_most=len(had_their_turn) + 1)
    return bool(set(active) - had_their_turn)
