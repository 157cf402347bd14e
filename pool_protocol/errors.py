"""Every way the pool says no, in one catalogue.

    Exception
    +-- PoolError        an expected outcome with a stable code; the other side is told
    +-- InvariantError   our own books or state contradict themselves; the process stops or answers INTERNAL

A `PoolError` has an internal text (`detail`, for logs and operators) and, through its code, a public one:
what went wrong and what to do next. Whether trying again can help is part of the code. Translation to gRPC
is not here but in `pool_protocol.grpc_status`. Codes are never renamed and never reused: clients compare
them.
"""

from collections.abc import Mapping

from pool_protocol.error_catalogue import CATALOGUE, ErrorEntry
from pool_protocol.error_codes import ErrorCode

__all__ = ["CATALOGUE", "ErrorCode", "ErrorEntry", "InvariantError", "PoolError"]


class PoolError(Exception):
    """An expected refusal or failure with a stable code.

    Attributes:
        code: What happened.
        detail: Internal text for logs and operators; may name ids and numbers, never secrets.
        context: Small facts a client can act on ("field", "limit", "scope"); they do cross the wire.
        retry_after_ms: The least delay before another try, or None when none is advised.
        advice: What to do in this very case, where the code's own next step says too little; it stays on
            this machine.
    """

    def __init__(
        self,
        code: ErrorCode,
        detail: str = "",
        *,
        context: Mapping[str, str] | None = None,
        retry_after_ms: int | None = None,
        advice: str = "",
    ) -> None:
        """Make an error; `detail` defaults to the code's public text."""
        self.code = code
        self.detail = detail or CATALOGUE[code].public
        self.context: dict[str, str] = dict(context or {})
        self.retry_after_ms = retry_after_ms
        self.advice = advice
        super().__init__(f"{code.value}: {self.detail}")

    def __reduce__(self) -> tuple[type["PoolError"], tuple[ErrorCode, str], dict[str, object]]:
        """Copy by code and detail, so that an error survives `copy` and process pools with its attributes."""
        return (
            type(self),
            (self.code, self.detail),
            {"context": self.context, "retry_after_ms": self.retry_after_ms, "advice": self.advice},
        )

    @property
    def entry(self) -> ErrorEntry:
        """The catalogue's entry of this code."""
        return CATALOGUE[self.code]

    @property
    def public(self) -> str:
        """What went wrong, in words for anyone."""
        return self.entry.public

    @property
    def next_step(self) -> str:
        """What to do about it."""
        return self.advice or self.entry.next_step

    @property
    def retryable(self) -> bool:
        """True when the same request may succeed later unchanged."""
        return self.entry.retryable


class InvariantError(Exception):
    """Our own state contradicts itself: a programming error or damaged data, never the caller's fault."""
