"""Every code has a class that says what to do; calls are repeated only when that is harmless and may help."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chargepool
from chargepool._errors import ChargepoolError, TaskFailed, class_of, from_pool_error
from chargepool._retry import REPEATABLE, Retrying, RetryPolicy
from pool_protocol.errors import CATALOGUE, ErrorCode, PoolError
from pool_protocol.grpc_status import to_status
from pool_protocol.v1 import log_service_pb2, market_service_pb2
from tests.support.clock import ManualClock


@pytest.mark.parametrize("code", ErrorCode)
def test_every_code_becomes_a_typed_error_that_says_what_to_do(code: ErrorCode) -> None:
    error = from_pool_error(PoolError(code, "in this case", context={"field": "x"}, retry_after_ms=7))
    assert isinstance(error, ChargepoolError)
    assert error.code is code
    assert (error.detail, error.context, error.retry_after_ms) == ("in this case", {"field": "x"}, 7)
    assert error.next_step == CATALOGUE[code].next_step
    assert code.value in str(error)
    assert error.next_step in str(error)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (ErrorCode.UNAUTHENTICATED, chargepool.AuthError),
        (ErrorCode.PERMISSION_DENIED, chargepool.AuthError),
        (ErrorCode.INSUFFICIENT_FUNDS, chargepool.FundsError),
        (ErrorCode.BUDGET_EXCEEDED, chargepool.BudgetExceeded),
        (ErrorCode.SPEND_LIMIT_REACHED, chargepool.SpendLimitReached),
        (ErrorCode.QUOTE_EXPIRED, chargepool.QuoteExpired),
        (ErrorCode.PROGRAM_CALLBACK, chargepool.ProgramRefused),
        (ErrorCode.ENVELOPE_SIGNATURE_INVALID, chargepool.ProofInvalid),
        (ErrorCode.ROOT_EXPIRED, chargepool.ProofInvalid),
        (ErrorCode.DRAINING, chargepool.PoolUnreachable),
        (ErrorCode.RATE_LIMITED, chargepool.PoolRefused),
    ],
)
def test_codes_have_the_class_that_callers_catch(code: ErrorCode, expected: type[Exception]) -> None:
    assert issubclass(class_of(code), expected)


def test_a_cap_that_is_reached_says_what_is_left() -> None:
    facts = {"limit_micros": "2000000", "left_micros": "500000", "wanted_micros": "1250000"}
    refusal = PoolError(
        ErrorCode.SPEND_LIMIT_REACHED, context={**facts, "holder": "token", "period": "2026-11"}
    )
    assert from_pool_error(refusal).detail == (
        "This token may reserve and spend 2.000000 in 2026-11 (UTC); 0.500000 is left, and the job asks for "
        "1.250000."
    )
    always = PoolError(
        ErrorCode.SPEND_LIMIT_REACHED, context={**facts, "holder": "account", "period": "ever"}
    )
    assert from_pool_error(always).detail.startswith("This account may reserve and spend 2.000000 in all; ")
    for lie in ("", "-1", "1e9", "9" * 5_000, "٣"):
        lying = PoolError(ErrorCode.SPEND_LIMIT_REACHED, context={**facts, "left_micros": lie})
        assert from_pool_error(lying).detail == lying.detail


def test_a_failed_task_with_a_reason_newer_than_we_are_is_still_a_failed_task() -> None:
    error = TaskFailed(index=3, reason="SOMETHING_NEW", detail="it broke", attempts=4)
    assert (error.index, error.reason) == (3, "SOMETHING_NEW")
    assert "Task 3 failed after 4 attempts: it broke" in str(error)


class Refusal(grpc.RpcError, grpc.Call):
    """What a stub raises, as the transport makes it."""

    def __init__(self, error: PoolError) -> None:
        self._status = to_status(error)
        self._error = error

    def trailing_metadata(self):  # type: ignore[no-untyped-def]
        return (("grpc-status-details-bin", self._status.SerializeToString()),)

    def code(self):  # type: ignore[no-untyped-def]
        return grpc.StatusCode[self._error.entry.grpc_code]

    def details(self) -> str:
        return str(self._status.message)

    def initial_metadata(self):  # type: ignore[no-untyped-def]
        return ()

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> float:
        return 0.0

    def cancel(self) -> bool:
        return False

    def add_callback(self, callback: object) -> bool:
        return False


class Waits:
    """Waits without waiting: time moves instead, and each wait is kept."""

    def __init__(self, *, jitter: Callable[[], float] = lambda: 1.0, patience_ms: int = 10_000) -> None:
        self.clock = ManualClock()
        self.waited_s: list[float] = []
        self.retrying = Retrying(
            RetryPolicy(patience_ms=patience_ms), clock=self.clock, jitter=jitter, wait=self._wait
        )

    def _wait(self, seconds: float) -> None:
        self.waited_s.append(seconds)
        self.clock.advance(seconds=seconds)


def failing(times: int, code: ErrorCode, *, retry_after_ms: int | None = None) -> Callable[[], str]:
    remaining = [Refusal(PoolError(code, retry_after_ms=retry_after_ms)) for _ in range(times)]

    def make() -> str:
        if remaining:
            raise remaining.pop()
        return "done"

    return make


def test_the_table_of_repeatable_calls_holds_the_whole_service() -> None:
    service = market_service_pb2.DESCRIPTOR.services_by_name["MarketService"]
    log = log_service_pb2.DESCRIPTOR.services_by_name["LogService"]
    reads = {method.name for method in log.methods if method.name.startswith("Get")}
    assert set(REPEATABLE) == {method.name for method in service.methods} | reads


def test_a_call_is_repeated_with_waits_that_grow_and_stay_bounded() -> None:
    waits = Waits()
    assert waits.retrying.call("GetJob", failing(7, ErrorCode.UNAVAILABLE)) == "done"
    assert waits.waited_s == [0.1, 0.2, 0.4, 0.8, 1.6, 3.0, 3.0]


@given(jitter=st.floats(min_value=0, max_value=1, exclude_max=True), failures=st.integers(1, 6))
def test_every_wait_lies_in_the_upper_half_of_its_range(jitter: float, failures: int) -> None:
    waits = Waits(jitter=lambda: jitter)
    waits.retrying.call("GetJob", failing(failures, ErrorCode.UNAVAILABLE))
    for number, waited in enumerate(waits.waited_s):
        ceiling = min(0.1 * 2**number, 3.0)
        assert ceiling / 2 - 0.001 <= waited <= ceiling


def test_the_pool_s_advice_is_a_lower_bound() -> None:
    waits = Waits()
    waits.retrying.call("GetJob", failing(1, ErrorCode.RATE_LIMITED, retry_after_ms=2_500))
    assert waits.waited_s == [2.5]


def test_patience_ends_in_an_error_that_says_what_goes_on() -> None:
    waits = Waits(patience_ms=5_000)
    with pytest.raises(chargepool.PoolUnreachable, match="did not answer for") as caught:
        waits.retrying.call("GetJob", failing(100, ErrorCode.UNAVAILABLE))
    assert "chargepool doctor" in caught.value.next_step
    assert 5 <= sum(waits.waited_s) <= 8


@pytest.mark.parametrize(
    "code", [ErrorCode.UNAUTHENTICATED, ErrorCode.INVALID_ARGUMENT, ErrorCode.INSUFFICIENT_FUNDS]
)
def test_a_refusal_that_does_not_pass_is_raised_at_once(code: ErrorCode) -> None:
    waits = Waits()
    with pytest.raises(ChargepoolError) as caught:
        waits.retrying.call("CreateJob", failing(1, code))
    assert caught.value.code is code
    assert waits.waited_s == []


class Cancelled(Refusal):
    """A call that ended without a word of the pool's: only gRPC's own code and details."""

    def __init__(self, details: str) -> None:
        super().__init__(PoolError(ErrorCode.CANCELLED))
        self._details = details

    def trailing_metadata(self):  # type: ignore[no-untyped-def]
        return ()

    def details(self) -> str:
        return self._details


@pytest.mark.parametrize("details", ["CANCELLED", "Cancelling all calls", ""])
def test_a_call_that_a_dying_pool_cancelled_is_made_again(details: str) -> None:
    waits = Waits()
    remaining = [Cancelled(details)]

    def make() -> str:
        if remaining:
            raise remaining.pop()
        return "done"

    assert waits.retrying.call("AddTasks", make) == "done"
    assert len(waits.waited_s) == 1


def test_a_call_that_ended_because_we_closed_the_channel_is_not_made_again() -> None:
    waits = Waits()

    def make() -> str:
        raise Cancelled("Channel closed!")

    with pytest.raises(ChargepoolError) as caught:
        waits.retrying.call("AddTasks", make)
    assert caught.value.code is ErrorCode.CANCELLED
    assert waits.waited_s == []


def test_a_call_that_nobody_thought_about_is_not_repeated() -> None:
    waits = Waits()
    with pytest.raises(chargepool.PoolUnreachable):
        waits.retrying.call("BuyTheMoon", failing(1, ErrorCode.UNAVAILABLE))
    assert waits.waited_s == []
