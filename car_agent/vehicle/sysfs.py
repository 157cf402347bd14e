"""Signals of a laptop, handheld or small computer from Linux's /sys/class/power_supply.

An own reader, because the common libraries look at two adapter names only, merge "Full" with "Not charging"
and stumble over empty attribute files. Peripherals (`scope` Device) are not this machine's battery. With
several batteries the machine charges when at least one charges and none gives energy away. A machine without
a battery never charges.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from car_agent.core.signals import ChargeState, PlugState, SourceClass, VehicleSignals
from car_agent.vehicle.source import RecordBuilder, Report
from pool_protocol.clock import Clock
from pool_protocol.errors import PoolError

DEFAULT_ROOT: Final = Path("/sys/class/power_supply")
_POLL_S: Final = 0.5
_FRESH_FOR_MS: Final = 5_000
_ATTRIBUTE_BYTES_MAX: Final = 256
_STATUSES: Final = {
    "Charging": ChargeState.CHARGING,
    "Full": ChargeState.COMPLETE,
    "Not charging": ChargeState.STOPPED,
    "Discharging": ChargeState.IDLE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Battery:
    status: str | None
    capacity_percent: float | None
    energy_now: float | None
    energy_full: float | None
    power_w: float | None
    temp_c: float | None


class SysfsSource:
    """Looks at the power supplies twice a second."""

    def __init__(self, *, clock: Clock, root: Path = DEFAULT_ROOT, poll_s: float = _POLL_S) -> None:
        """Read the power supplies under `root`."""
        self._root = root
        self._poll_s = poll_s
        self._records = RecordBuilder(
            name=self.name, source_class=self.source_class, fresh_for_ms=_FRESH_FOR_MS, clock=clock
        )

    @property
    def name(self) -> str:
        """How people call it."""
        return "sysfs"

    @property
    def source_class(self) -> SourceClass:
        """A local poll."""
        return SourceClass.B

    async def run(self, report: Report) -> None:
        """Report at each look. Firmware may take its time to answer, so looking happens on a thread."""
        while True:
            report(await asyncio.to_thread(self.read))
            await asyncio.sleep(self._poll_s)

    def read(self) -> VehicleSignals:
        """Return what the kernel says now; unknown where it says nothing sensible."""
        try:
            return self._records.record(read_power_supplies(self._root))
        except PoolError:
            return self._records.unknown()


def read_power_supplies(root: Path) -> dict[str, Any]:
    """Return signal values from a power-supply tree."""
    batteries: list[_Battery] = []
    adapters_online: list[bool] = []
    try:
        supplies = sorted(root.iterdir())
    except OSError:
        return {}
    for supply in supplies:
        kind = _text(supply / "type")
        if kind is None or _text(supply / "scope") == "Device":
            continue
        if kind == "Battery" and _text(supply / "present") != "0":
            batteries.append(_read_battery(supply))
        elif kind == "Mains" or kind.startswith("USB") or kind == "Wireless":
            online = _number(supply / "online")
            if online is not None:
                adapters_online.append(online > 0)
    return _values(batteries, adapters_online)


def _values(batteries: Sequence[_Battery], adapters_online: Sequence[bool]) -> dict[str, Any]:
    charge = _charge_state([battery.status for battery in batteries])
    discharging = any(battery.status == "Discharging" for battery in batteries) if batteries else None
    values: dict[str, Any] = {
        "plug": _plug_state(adapters_online, charge, discharging=discharging),
        "charge": charge,
        "discharging": discharging,
        "soc_percent": _state_of_charge(batteries),
        "battery_power_w": _battery_power(batteries),
        "battery_temp_c": max(
            (battery.temp_c for battery in batteries if battery.temp_c is not None), default=None
        ),
    }
    values["eta_full_s"] = (
        _time_to_full(batteries, values["battery_power_w"]) if charge is _CHARGING else None
    )
    return values


_CHARGING: Final = ChargeState.CHARGING


def _plug_state(
    adapters_online: Sequence[bool], charge: ChargeState, *, discharging: bool | None
) -> PlugState:
    if any(adapters_online):
        return PlugState.PLUGGED
    if adapters_online:
        return PlugState.UNPLUGGED
    # No adapter is listed (some USB-C machines): the battery tells, where it is sure.
    if discharging:
        return PlugState.UNPLUGGED
    return PlugState.PLUGGED if charge in {_CHARGING, ChargeState.COMPLETE} else PlugState.UNKNOWN


def _charge_state(statuses: Sequence[str | None]) -> ChargeState:
    """Combine batteries: what one gives away or hides counts for all, what one takes counts if none does."""
    states = [_STATUSES.get(status or "", ChargeState.UNKNOWN) for status in statuses]
    for state in (ChargeState.UNKNOWN, ChargeState.IDLE, _CHARGING, ChargeState.STOPPED):
        if state in states:
            return state
    return ChargeState.COMPLETE if states else ChargeState.UNKNOWN


def _state_of_charge(batteries: Sequence[_Battery]) -> float | None:
    full = [battery.energy_full for battery in batteries]
    now = [battery.energy_now for battery in batteries]
    if batteries and all(full) and all(value is not None for value in now):
        total = sum(value for value in full if value is not None)
        return min(100.0, sum(value for value in now if value is not None) / total * 100)
    capacities = [battery.capacity_percent for battery in batteries if battery.capacity_percent is not None]
    if not capacities or len(capacities) != len(batteries):
        return None
    return min(100.0, sum(capacities) / len(capacities))


def _battery_power(batteries: Sequence[_Battery]) -> float | None:
    total = 0.0
    for battery in batteries:
        if battery.power_w is None:
            return None
        if battery.status == "Charging":
            total += abs(battery.power_w)
        elif battery.status == "Discharging":
            total -= abs(battery.power_w)
    return total if batteries else None


def _time_to_full(batteries: Sequence[_Battery], power_w: float | None) -> float | None:
    if power_w is None or power_w <= 0:
        return None
    missing_uwh = 0.0
    for battery in batteries:
        if battery.energy_full is None or battery.energy_now is None:
            return None
        missing_uwh += max(0.0, battery.energy_full - battery.energy_now)
    return min(missing_uwh / 1e6 / power_w * 3_600, 7 * 86_400.0)


def _read_battery(supply: Path) -> _Battery:
    """Read one battery. Energies in uWh; a battery that counts charge (uAh) is scaled by its voltage."""
    volts = _scaled(_number(supply / "voltage_now"), 1e-6)
    energy_now, energy_full = _number(supply / "energy_now"), _number(supply / "energy_full")
    if energy_now is None and volts is not None:
        energy_now = _scaled(_number(supply / "charge_now"), volts)
        energy_full = _scaled(_number(supply / "charge_full"), volts)
    power_w = _scaled(_number(supply / "power_now"), 1e-6)
    if power_w is None and volts is not None:
        power_w = _scaled(_number(supply / "current_now"), volts * 1e-6)
    return _Battery(
        status=_text(supply / "status"),
        capacity_percent=_number(supply / "capacity"),
        energy_now=energy_now,
        energy_full=energy_full,
        power_w=power_w,
        temp_c=_scaled(_number(supply / "temp"), 0.1),
    )


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _text(path: Path) -> str | None:
    """Return an attribute's text; None when it is missing, unreadable or empty."""
    try:
        with path.open("rb") as file:
            content = file.read(_ATTRIBUTE_BYTES_MAX)
    except OSError:  # a driver may answer ENODEV or EIO for an attribute that it lists
        return None
    return content.decode("utf-8", errors="replace").strip() or None


def _number(path: Path) -> float | None:
    text = _text(path)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
