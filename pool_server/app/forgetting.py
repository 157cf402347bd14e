"""What the pool need not remember: offers and requests that ended long ago and led to nothing.

Strangers can ask to be enrolled and buyers can ask for quotes as often as their limits allow; without this
the database would keep every one. What led to something (an approved device, a job) is told elsewhere.
"""

from pool_protocol.limits import DAY_US
from pool_server.ports.unit_of_work import UnitOfWork

#: A device or a buyer that comes late is told for this long that its code or quote has ended.
REMEMBERED_US = DAY_US
#: Rows of a kind in one sweep.
FORGOTTEN_PER_SWEEP = 1_000


def forget_ended(uow: UnitOfWork, *, now_us: int) -> int:
    """Delete a bounded number of ended quotes and of enrolments that nobody approved. Returns how many."""
    before_us = now_us - REMEMBERED_US
    return uow.quotes.forget(
        ended_before_us=before_us, limit=FORGOTTEN_PER_SWEEP
    ) + uow.identity.forget_enrolments(ended_before_us=before_us, limit=FORGOTTEN_PER_SWEEP)
