"""What a source of signals is, and how a record is built from named values.

A source reports; it never decides. Whatever it cannot read it leaves unknown, and a report that cannot be
understood at all is reported as unknown too: silence would leave an old "charging" standing until its
freshness deadline.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Final, Protocol

from car_agent.core.signals import ChargeState, PlugState, SourceClass, VehicleSignals
from pool_protocol.clock import Clock
from pool_protocol.errors import ErrorCode, PoolError

Report = Callable[[VehicleSignals], None]

#: What a file or a script may set: everything that describes the car, nothing that describes the report.
SIGNAL_NAMES: Final = frozenset(field.name for field in fields(VehicleSignals)) - {
    "source",
    "source_class",
    "observed_mono_ns",
    "observed_us",
    "fresh_for_ms",
    "sequence",
}
_FLAGS: Final = frozenset({"discharging", "moving", "at_home"})


class SignalSource(Protocol):
    """A source of signals."""

    @property
    def name(self) -> str:
        """How people call it."""
        ...

    @property
    def source_class(self) -> SourceClass:
        """How late it may be."""
        ...

    async def run(self, report: Report) -> None:
        """Report until cancelled. Must not end by itself: a source that does ends the agent."""
        ...


def checked_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return signal values with their types checked and states parsed.

    Raises:
        PoolError: INVALID_ARGUMENT naming the signal when a name is unknown or a value has the wrong type.
    """
    return {name: _checked(name, value) for name, value in values.items()}


def _checked(name: str, value: Any) -> Any:
    if name not in SIGNAL_NAMES:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"there is no signal {name!r}; there are {', '.join(sorted(SIGNAL_NAMES))}",
            context={"field": str(name)[:64]},
        )
    if name in {"plug", "charge"}:
        states = PlugState if name == "plug" else ChargeState
        try:
            return states(value)
        except ValueError:
            allowed = ", ".join(states)
            raise _wrong(name, value, f"one of {allowed}") from None
    if value is None:
        return None
    if name in _FLAGS:
        if not isinstance(value, bool):
            raise _wrong(name, value, "true, false or null")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(name, value, "a number or null")
    return float(value)


def _wrong(name: str, value: Any, wanted: str) -> PoolError:
    shown = repr(value)[:64]
    return PoolError(
        ErrorCode.INVALID_ARGUMENT, f"signal {name} is {shown}; it is {wanted}", context={"field": name}
    )


class RecordBuilder:
    """Stamps values of one source with time and sequence."""

    def __init__(self, *, name: str, source_class: SourceClass, fresh_for_ms: int, clock: Clock) -> None:
        """Build records of the source `name` that are trusted for `fresh_for_ms`."""
        self._name = name
        self._source_class = source_class
        self._fresh_for_ms = fresh_for_ms
        self._clock = clock
        self._sequence = 0

    def record(self, values: Mapping[str, Any], *, age_ns: int = 0) -> VehicleSignals:
        """Return the record of values that were observed `age_ns` ago.

        Raises:
            PoolError: INVALID_ARGUMENT when a value is not possible.
        """
        self._sequence += 1
        return VehicleSignals(
            source=self._name,
            source_class=self._source_class,
            fresh_for_ms=self._fresh_for_ms,
            observed_mono_ns=self._clock.monotonic_ns() - age_ns,
            observed_us=self._clock.now_us() - age_ns // 1_000,
            sequence=self._sequence,
            **values,
        )

    def unknown(self) -> VehicleSignals:
        """Return a record that knows nothing: what to report when reading failed."""
        return self.record({})
