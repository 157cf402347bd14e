"""How long the car will probably go on charging, so that a lease is not longer than the charge.

A small interface and its first, plain implementation: the source's own estimate, or a constant where there
is none. It never decides whether to compute; the policy does.
"""

from dataclasses import dataclass
from typing import Protocol

from car_agent.core.signals import VehicleSignals


class DepartureForecast(Protocol):
    """An estimate of the remaining charging time."""

    def available_ms(self, signals: VehicleSignals | None) -> int:
        """Return the milliseconds that the car will probably charge; 0 means unknown."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EtaForecast:
    """Trusts the car's time to full, less a margin for leaving early."""

    share: float = 0.8
    """The part of the estimate that is counted on."""
    otherwise_ms: int = 0
    """What to say when the car gives no estimate."""

    def available_ms(self, signals: VehicleSignals | None) -> int:
        """Return the counted part of the time to full."""
        if signals is None or signals.eta_full_s is None:
            return self.otherwise_ms
        return max(1, int(signals.eta_full_s * 1_000 * self.share))
