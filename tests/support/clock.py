"""A clock that stands still until a test moves it."""

#: 2026-01-01T00:00:00Z: a fixed, plausible start, so that traces read well.
START_US = 1_767_225_600_000_000


class ManualClock:
    """Wall and monotonic time that only `advance` and `step_wall` change."""

    def __init__(self, now_us: int = START_US) -> None:
        """Start at a wall time in microseconds since the epoch; monotonic time starts at zero."""
        self._now_us = now_us
        self._monotonic_ns = 0

    def now_us(self) -> int:
        """Return the wall time in microseconds since the epoch."""
        return self._now_us

    def monotonic_ns(self) -> int:
        """Return the nanoseconds that `advance` has added up to."""
        return self._monotonic_ns

    def advance(self, *, seconds: float = 0, us: int = 0) -> None:
        """Let both clocks run on together; time never goes back."""
        step_us = us + int(seconds * 1_000_000)
        if step_us < 0:
            raise ValueError(
                f"time cannot go back by {-step_us} us; use step_wall for a wall clock that is set"
            )
        self._now_us += step_us
        self._monotonic_ns += step_us * 1_000

    def step_wall(self, *, us: int) -> None:
        """Set the wall clock forward or back, as NTP does, without any time passing."""
        self._now_us += us
