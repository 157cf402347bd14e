"""Opens the source of signals that settings and command line name."""

from dataclasses import dataclass
from pathlib import Path

from car_agent.journal.settings import AgentSettings
from car_agent.vehicle.file import FileSource
from car_agent.vehicle.script import SimulatedSource, read_script
from car_agent.vehicle.sessions import charging_sessions
from car_agent.vehicle.source import SignalSource
from car_agent.vehicle.sysfs import SysfsSource
from pool_protocol.clock import Clock
from pool_protocol.errors import ErrorCode, PoolError


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationChoice:
    """What a simulated car does: a script, or sessions drawn from a seed."""

    script: Path | None = None
    seed: int = 0
    speed: float = 1.0


def open_source(settings: AgentSettings, simulation: SimulationChoice, *, clock: Clock) -> SignalSource:
    """Return the source.

    Raises:
        PoolError: INVALID_ARGUMENT when a file is not named or a script is wrong.
    """
    if settings.source == "file":
        if not settings.source_file:
            raise PoolError(
                ErrorCode.INVALID_ARGUMENT,
                "the source `file` needs its file: --source-file, or source_file in agent.toml",
                context={"field": "source_file"},
            )
        path = Path(settings.source_file).absolute()
        return FileSource(path, clock=clock, fresh_for_s=settings.source_fresh_for_s)
    if settings.source == "simulated":
        changes = (
            read_script(simulation.script)
            if simulation.script is not None
            else charging_sessions(simulation.seed)
        )
        return SimulatedSource(changes, clock=clock, speed=simulation.speed)
    return SysfsSource(clock=clock, root=Path(settings.sysfs_root))
