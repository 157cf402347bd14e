"""What can go wrong for a buyer, as one tree of exceptions; each says what to do next.

    ChargepoolError
    ├── ConfigError            address, CA or token is missing or unreadable; nothing was sent
    ├── PoolUnreachable        the pool did not answer in the time allowed
    ├── AuthError              the pool does not accept the token, or the token lacks the scope
    ├── FundsError
    │   ├── InsufficientFunds  the account does not hold the job's budget
    │   ├── BudgetExceeded     the job's budget does not cover another task
    │   └── BudgetRequired     nobody said how many tasks there will be, nor what they may cost
    ├── QuoteExpired           the quote is no longer binding
    ├── PriceAboveCap          the price is above what the job pays at most
    ├── ProgramRefused         the function cannot become a program of this pool
    ├── InputRefused           inputs or constants are not arrays, or do not fit the program
    ├── JobError
    │   ├── JobNotFound        no such job, or another buyer's
    │   ├── JobClosed          the job takes no more tasks
    │   ├── JobCancelled       the job was stopped before this task was decided
    │   └── TaskFailed         one task failed for good
    ├── ProofInvalid           a receipt, signature, key or digest of the pool does not verify
    └── PoolRefused            any other refusal, with its code

Every error has `code`, the stable name out of `pool_protocol.errors`, `detail`, `next_step` and `context`.
Refusals by the pool are turned into these classes in one place, `from_pool_error`. Errors of the functions
that are run locally pass through unchanged.
"""

# ruff: noqa: N818 - the names say what happened; the root of the tree says that they are errors

from collections.abc import Mapping

from pool_protocol import amounts
from pool_protocol.errors import CATALOGUE, ErrorCode, PoolError

#: More digits are no amount.
_DIGITS_MAX = 20


class ChargepoolError(Exception):
    """Anything that Chargepool's SDK raises on purpose.

    Attributes:
        code: Stable name of what happened; programs may compare it.
        detail: What happened here, in words.
        next_step: What to do about it.
        context: Small facts ("field", "limit", "job_id").
        retry_after_ms: The least delay before another try, or None when none is advised.
    """

    default_code: ErrorCode = ErrorCode.INTERNAL

    def __init__(
        self,
        detail: str = "",
        *,
        code: ErrorCode | None = None,
        next_step: str | None = None,
        context: Mapping[str, str] | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        """Make an error; what is left out comes from the catalogue's entry of its code."""
        self.code = self.default_code if code is None else code
        entry = CATALOGUE[self.code]
        self.detail = detail or entry.public
        self.next_step = entry.next_step if next_step is None else next_step
        self.context: dict[str, str] = dict(context or {})
        self.retry_after_ms = retry_after_ms
        super().__init__(self.detail)

    def __str__(self) -> str:
        return f"{self.detail} [{self.code.value}] {self.next_step}".rstrip()


class ConfigError(ChargepoolError):
    """Address, CA or token is missing or unreadable; nothing was sent."""

    default_code = ErrorCode.INVALID_ARGUMENT


class PoolUnreachable(ChargepoolError):
    """The pool did not answer in the time allowed. Work that it acknowledged goes on there."""

    default_code = ErrorCode.UNAVAILABLE


class AuthError(ChargepoolError):
    """The pool does not accept the token, or the token lacks the scope."""

    default_code = ErrorCode.UNAUTHENTICATED


class FundsError(ChargepoolError):
    """Money is what is missing."""

    default_code = ErrorCode.INSUFFICIENT_FUNDS


class InsufficientFunds(FundsError):
    """The account does not hold the job's budget. Nothing was reserved."""


class BudgetExceeded(FundsError):
    """The job's budget does not cover another task. What was computed so far is kept."""

    default_code = ErrorCode.BUDGET_EXCEEDED


class SpendLimitReached(FundsError):
    """The operator lets this account, or this token, spend no more. Nothing was reserved."""

    default_code = ErrorCode.SPEND_LIMIT_REACHED


class BudgetRequired(FundsError):
    """Nobody said how many tasks there will be, nor what they may cost. Nothing was spent."""

    default_code = ErrorCode.BUDGET_EXCEEDED


class QuoteExpired(ChargepoolError):
    """The quote is no longer binding. Nothing was spent."""

    default_code = ErrorCode.QUOTE_EXPIRED


class PriceAboveCap(ChargepoolError):
    """The price is above what the job pays at most, and it was not told to wait. Nothing was spent."""

    default_code = ErrorCode.PRICE_ABOVE_CAP


class ProgramRefused(ChargepoolError):
    """The function cannot become a program of this pool; `code` says by which rule. Nothing was spent."""

    default_code = ErrorCode.PROGRAM_UNPARSABLE


class InputRefused(ChargepoolError):
    """Inputs or constants are not arrays, or do not fit the program. That task was not sent."""

    default_code = ErrorCode.INVALID_ARGUMENT


class JobError(ChargepoolError):
    """Something about one job."""

    default_code = ErrorCode.INVALID_STATE


class JobNotFound(JobError):
    """There is no such job, or it is another buyer's."""

    default_code = ErrorCode.NOT_FOUND


class JobClosed(JobError):
    """The job takes no more tasks."""

    default_code = ErrorCode.JOB_CLOSED


class JobCancelled(JobError):
    """The job was stopped, by its buyer or its deadline, before this task was decided. It costs nothing."""

    default_code = ErrorCode.CANCELLED


class TaskFailed(JobError):
    """One task failed for good on every car that tried it. It costs nothing.

    Attributes:
        index: The task's index in the job.
        reason: The code of the last failure, for example "PROGRAM_FAILED".
    """

    default_code = ErrorCode.PROGRAM_FAILED

    def __init__(self, *, index: int, reason: str, detail: str = "", attempts: int = 0) -> None:
        """Make the error of task `index` from the pool's words."""
        self.index = index
        self.reason = reason
        code = ErrorCode(reason) if reason in ErrorCode.__members__ else self.default_code
        tried = f" after {attempts} attempts" if attempts > 1 else ""
        text = f"Task {index} failed{tried}: {detail or CATALOGUE[code].public}"
        super().__init__(text, code=code, context={"index": str(index), "reason": reason})


class ProofInvalid(ChargepoolError):
    """A receipt, signature, key or digest of the pool does not verify. Trust none of that answer."""

    default_code = ErrorCode.PROOF_INVALID


class PoolRefused(ChargepoolError):
    """The pool refused for a reason that has no class of its own; `code` says which."""


_CLASS_OF_CODE: dict[ErrorCode, type[ChargepoolError]] = {
    ErrorCode.UNAVAILABLE: PoolUnreachable,
    ErrorCode.DRAINING: PoolUnreachable,
    ErrorCode.DEADLINE_EXCEEDED: PoolUnreachable,
    ErrorCode.UNAUTHENTICATED: AuthError,
    ErrorCode.PERMISSION_DENIED: AuthError,
    ErrorCode.INSUFFICIENT_FUNDS: InsufficientFunds,
    ErrorCode.BUDGET_EXCEEDED: BudgetExceeded,
    ErrorCode.SPEND_LIMIT_REACHED: SpendLimitReached,
    ErrorCode.QUOTE_EXPIRED: QuoteExpired,
    ErrorCode.PRICE_ABOVE_CAP: PriceAboveCap,
    ErrorCode.JOB_CLOSED: JobClosed,
    ErrorCode.PROOF_INVALID: ProofInvalid,
    ErrorCode.RECEIPT_INVALID: ProofInvalid,
    ErrorCode.CERTIFICATE_INVALID: ProofInvalid,
    ErrorCode.BLOB_DIGEST_MISMATCH: ProofInvalid,
    ErrorCode.TENSORS_DTYPE_UNSUPPORTED: InputRefused,
    ErrorCode.TENSORS_MALFORMED: InputRefused,
    ErrorCode.TENSORS_PICKLE: InputRefused,
    ErrorCode.TENSORS_TOO_LARGE: InputRefused,
    ErrorCode.BLOB_TOO_LARGE: InputRefused,
}
_CLASS_OF_PREFIX: tuple[tuple[str, type[ChargepoolError]], ...] = (
    ("PROGRAM_", ProgramRefused),
    ("ENVELOPE_", ProofInvalid),
    ("KEY_", ProofInvalid),
    ("ROOT_", ProofInvalid),
    ("LOG_", ProofInvalid),
    ("SOLVENCY_", ProofInvalid),
)


def class_of(code: ErrorCode) -> type[ChargepoolError]:
    """Return the class that a code raises as."""
    found = _CLASS_OF_CODE.get(code)
    if found is not None:
        return found
    for prefix, by_prefix in _CLASS_OF_PREFIX:
        if code.value.startswith(prefix):
            return by_prefix
    return PoolRefused


def from_pool_error(error: PoolError) -> ChargepoolError:
    """Return the typed error for a refusal; chain it with `from error` so that nothing is lost."""
    detail = error.detail
    if error.code is ErrorCode.SPEND_LIMIT_REACHED:
        detail = _spend_limit(error.context) or detail
    return class_of(error.code)(
        detail,
        code=error.code,
        context=error.context,
        retry_after_ms=error.retry_after_ms,
    )


def _spend_limit(context: Mapping[str, str]) -> str:
    """Say which cap is reached and what is left of it; nothing where the pool does not tell the figures."""
    figures = [context.get(f"{name}_micros", "") for name in ("limit", "left", "wanted")]
    if not all(figure.isascii() and figure.isdecimal() and len(figure) < _DIGITS_MAX for figure in figures):
        return ""
    limit, left, wanted = (amounts.amount(int(figure)) for figure in figures)
    whose = "This token" if context.get("holder") == "token" else "This account"
    period = context.get("period", "")
    when = f"in {period[:7]} (UTC)" if period[:1].isdecimal() else "in all"
    return f"{whose} may reserve and spend {limit} {when}; {left} is left, and the job asks for {wanted}."
