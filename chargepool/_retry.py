"""When a call to the pool is made again, and how long to wait in between.

A call is repeated only if repeating it cannot do anything twice. Every call of the market service is of that
kind by design (content-addressed, keyed, indexed or a mere reading), and the table below says so one by one:
a new call is not retried until someone has thought about it.

Waits grow by doubling and are drawn from the upper half of their range, so that many clients of one restarted
pool do not return at the same instant.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import grpc

from chargepool._errors import ChargepoolError, PoolUnreachable, from_pool_error
from pool_protocol.clock import MICROSECONDS_PER_MILLISECOND, Clock
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.grpc_status import from_rpc_error
from pool_protocol.system import SystemClock, SystemIds

T = TypeVar("T")

_NS_PER_MS = 1_000 * MICROSECONDS_PER_MILLISECOND
_JITTER_BYTES = 4

#: Method -> why a repetition is harmless.
REPEATABLE: dict[str, str] = {
    "AdmitProgram": "content-addressed",
    "PutBlob": "content-addressed",
    "GetBlob": "reads",
    "GetQuote": "binds the pool, not the buyer; spends nothing",
    "CreateJob": "the idempotency key names one job",
    "AddTasks": "first_index names the tasks",
    "CloseJob": "closing twice is closing",
    "GetJob": "reads",
    "ListJobs": "reads",
    "WatchJob": "reads from a cursor",
    "GetResults": "reads",
    "CancelJob": "cancelling twice is cancelling",
    "GetBalance": "reads",
    "GetPoolRoot": "reads",
    "GetTreeHead": "reads",
    "GetInclusionProofs": "reads",
    "GetConsistencyProof": "reads",
    "GetSolvency": "reads",
    "GetLiabilityProofs": "reads",
}


#: What gRPC for Python says of calls that end because this side closed its channel.
_CLOSED_HERE = "Channel closed!"


def failure_of(error: grpc.RpcError) -> PoolError:
    """Return what a failed call means to a client that did not cancel it itself.

    A server that is killed cancels the calls it was serving. Nobody asked for that: it is the pool going
    away, and the call may be made again. Only CANCELLED by our own closing of the channel is meant.
    """
    pool_error = from_rpc_error(error)
    details = getattr(error, "details", str)()
    if pool_error.code is ErrorCode.CANCELLED and details != _CLOSED_HERE:
        return PoolError(ErrorCode.UNAVAILABLE, f"the pool cancelled the call: {pool_error.detail}")
    return pool_error


def _system_jitter() -> float:
    """Return a number of [0, 1) that no two clients share."""
    drawn: int = int.from_bytes(SystemIds().random_bytes(_JITTER_BYTES), "big")
    return drawn / float(1 << (8 * _JITTER_BYTES))


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How patient a client is."""

    patience_ms: int = 120_000
    """From the first failure until `PoolUnreachable` is raised. A pool that restarts is back much sooner."""
    first_wait_ms: int = 100
    wait_ms_max: int = 3_000
    call_timeout_s: float = 60.0
    """Of one unary call; one that takes longer counts as a failure and is made again."""


@dataclass(slots=True)
class Outage:
    """One stretch of failures: counts them, and says how long to wait or that patience is over."""

    policy: RetryPolicy
    clock: Clock
    jitter: Callable[[], float]
    failures: int = 0
    began_ns: int = 0

    def next_wait_ms(self, error: PoolError) -> int:
        """Return the wait before the next try.

        Raises:
            ChargepoolError: `error` as the SDK's class, when it does not pass by waiting or patience is over.
        """
        now_ns = self.clock.monotonic_ns()
        if self.failures == 0:
            self.began_ns = now_ns
        self.failures += 1
        if not error.retryable:
            raise from_pool_error(error) from error
        waited_ms = (now_ns - self.began_ns) // _NS_PER_MS
        if waited_ms >= self.policy.patience_ms:
            raise _gave_up(error, waited_ms, self.failures) from error
        ceiling_ms = min(self.policy.first_wait_ms * 2 ** min(self.failures - 1, 16), self.policy.wait_ms_max)
        drawn_ms = int(ceiling_ms * (0.5 + 0.5 * self.jitter()))
        return max(drawn_ms, error.retry_after_ms or 0)

    def over(self) -> None:
        """Take note that a call succeeded."""
        self.failures = 0


class Retrying:
    """Makes calls, repeating those that may be repeated. Safe to share between threads."""

    def __init__(
        self,
        policy: RetryPolicy,
        *,
        clock: Clock | None = None,
        jitter: Callable[[], float] = _system_jitter,
        wait: Callable[[float], None] = _wait,
    ) -> None:
        """Take a policy; clock, jitter and wait are replaced in tests only."""
        self.policy = policy
        self._clock = clock or SystemClock()
        self._jitter = jitter
        self._wait = wait

    def outage(self) -> Outage:
        """Return a fresh count of failures."""
        return Outage(policy=self.policy, clock=self._clock, jitter=self._jitter)

    def pause_after(self, outage: Outage, error: PoolError) -> None:
        """Wait as `outage` advises after `error`, or raise it as the SDK's class.

        Raises:
            ChargepoolError: The error does not pass by waiting, or patience is over.
        """
        self._wait(outage.next_wait_ms(error) / 1_000)

    def call(self, method: str, make: Callable[[], T]) -> T:
        """Make a unary call until it succeeds.

        Args:
            method: The RPC's name.
            make: Makes the call once.

        Raises:
            ChargepoolError: The pool's refusal, or `PoolUnreachable` when patience is over.
        """
        outage = self.outage()
        while True:
            try:
                return make()
            except grpc.RpcError as error:
                pool_error = failure_of(error)
                if method not in REPEATABLE:
                    raise from_pool_error(pool_error) from error
                self.pause_after(outage, pool_error)


def _gave_up(error: PoolError, waited_ms: int, failures: int) -> ChargepoolError:
    return PoolUnreachable(
        f"The pool did not answer for {waited_ms / 1000:.0f} s ({failures} tries; last: {error.detail}).",
        code=ErrorCode.UNAVAILABLE,
        next_step="Check address and network with `chargepool doctor`. Jobs go on in the pool;"
        " `chargepool jobs` lists them once it answers.",
    )
