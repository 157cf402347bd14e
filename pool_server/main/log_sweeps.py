"""The sweeps of the transparency log: hash what was written, sign heads, state the solvency once a day."""

from pool_server.app.receipt_log import keep_log
from pool_server.app.solvency import make_daily_statement
from pool_server.identity.log_signing import ReceiptLogSigner
from pool_server.main.loops import Sweep
from pool_server.ports.unit_of_work import UnitOfWork

#: Turns between two looks at whether a new day has begun.
_SELDOM = 60


def log_sweeps(signer: ReceiptLogSigner, *, head_interval_us: int) -> list[Sweep]:
    """Return the sweeps that keep the log."""

    def log(uow: UnitOfWork, now_us: int) -> int:
        return keep_log(uow, signer=signer, head_interval_us=head_interval_us, now_us=now_us)

    def statement(uow: UnitOfWork, now_us: int) -> int:
        return make_daily_statement(uow, signer=signer, secret=signer.secret(), now_us=now_us)

    return [
        Sweep(name="log of receipts", run=log),
        Sweep(name="statement of solvency", run=statement, every=_SELDOM),
    ]
