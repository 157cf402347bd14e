"""Watches the demo run and plays its scenes: a car unplugged in mid-task, and chaos when asked.

Runs on the main thread, so that every process is started by a thread that lives to the end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from chargepool.demo.cast import Part, charging, unplugged, write_signals
from chargepool.demo.processes import DemoFailed, Household, Program
from chargepool.demo.progress import Progress
from chargepool.demo.world import PairedCar, World
from pool_protocol.v1 import agent_control_service_pb2

TICK_S = 0.05
AWAY_S = 5.0
REFRESH_S = 0.5
STATUS_S = 0.15
RESTART_AFTER_S = 0.5
# All while training: results are read in their order and computed in a secret one, so that the last half of
# the tasks may be counted within one look.
SERVER_KILLS_AT = (0.10, 0.28, 0.44)
AGENT_KILL_AT = 0.20


@dataclass
class Scene:
    """The car that is unplugged while it computes."""

    paired: PairedCar
    unplugged_at: float | None = None
    plugged_again: bool = False
    stop_ms: float = -1.0
    abandoned_before: int = 0
    last_write: float = 0.0
    last_status: float = 0.0

    def play(self, now: float, say: Callable[[str], None]) -> None:
        """One look: unplugs at the first attempt that is under way, plugs in again later."""
        if now - self.last_write >= REFRESH_S:
            self.write(now)
        if self.unplugged_at is None:
            if now - self.last_status < STATUS_S:
                return
            self.last_status = now
            status = self.paired.status()
            if status is not None and in_mid_task(status):
                self.abandoned_before = status.compute.abandoned_total
                self.unplugged_at = now
                self.write(now)
                say(f"{self.paired.car.name} is unplugged in mid-task")
        elif not self.plugged_again and now - self.unplugged_at >= AWAY_S:
            self.plugged_again = True
            self.write(now)
            say(f"{self.paired.car.name} is plugged in again")
        elif self.stop_ms < 0 and not self.plugged_again:
            status = self.paired.status()
            if status is not None and not status.compute.worker_alive and status.compute.last_stop_ms >= 0:
                self.stop_ms = status.compute.last_stop_ms
                say(f"{self.paired.car.name}: no worker alive {self.stop_ms:.1f} ms after the report")

    def write(self, now: float) -> None:
        """Writes the signals afresh: an old file would count as stale."""
        self.last_write = now
        car = self.paired.car
        away = self.unplugged_at is not None and not self.plugged_again
        signals = unplugged if away else (lambda *, soc_percent: charging(car, soc_percent=soc_percent))
        write_signals(self.paired.signals_file, signals(soc_percent=car.soc_percent))


def in_mid_task(status: agent_control_service_pb2.AgentStatus) -> bool:
    """Whether an attempt is under way and not yet done."""
    compute = status.compute
    return bool(status.computing and compute.lease_attempts > compute.lease_done)


@dataclass
class Chaos:
    """Kills the server three times and one agent's supervisor once, and starts them again."""

    server: Program
    agent: Program
    server_kills: int = 0
    agent_kills: int = 0
    down_since: dict[str, float] = field(default_factory=dict)

    def play(self, now: float, share: float, say: Callable[[str], None]) -> None:
        """One look at how far the job is."""
        for program in (self.server, self.agent):
            since = self.down_since.get(program.name)
            if since is not None and now - since >= RESTART_AFTER_S:
                del self.down_since[program.name]
                program.start()
                say(f"{program.name} was started again")
        more = self.server_kills < len(SERVER_KILLS_AT) and not self.expects_down(self.server)
        if more and share >= SERVER_KILLS_AT[self.server_kills]:
            self.server_kills += 1
            self.strike(self.server, now, say)
        if self.agent_kills == 0 and share >= AGENT_KILL_AT:
            self.agent_kills += 1
            self.strike(self.agent, now, say)

    def strike(self, program: Program, now: float, say: Callable[[str], None]) -> None:
        """SIGKILL, no warning."""
        program.kill()
        self.down_since[program.name] = now
        say(f"{program.name} was killed with SIGKILL")

    def expects_down(self, program: Program) -> bool:
        """Whether the program is down because of a scene."""
        return program.name in self.down_since


@dataclass
class Director:
    """The demo's main loop."""

    world: World
    household: Household
    progress: Progress
    say: Callable[[str], None]
    chaos: Chaos | None
    limit_s: float
    on_tick: Callable[[], None] = lambda: None

    def run(self, job: threading.Thread) -> Scene:
        """Runs until the buyer's thread ends and the scenes are over.

        Raises:
            DemoFailed: a program died by itself, or the time is over.
        """
        scene = Scene(self.world.only(Part.UNPLUGGED))
        began = time.monotonic()
        while job.is_alive() or (self.chaos is not None and self.chaos.down_since):
            now = time.monotonic()
            if now - began > self.limit_s:
                done = f"{self.progress.tasks_done} of {self.progress.tasks_total} tasks"
                raise DemoFailed(
                    f"the job did not end within {self.limit_s:.0f} s ({done}, {self.progress.stage})"
                )
            for line in self.progress.heard():
                self.say(line)
            scene.play(now, self.say)
            if self.chaos is not None:
                self.chaos.play(now, self.progress.share, self.say)
            self.look_for_the_dead()
            self.on_tick()
            time.sleep(TICK_S)
        for line in self.progress.heard():
            self.say(line)
        return scene

    def look_for_the_dead(self) -> None:
        """A program that ended by itself ends the demo."""
        for program in self.household.programs:
            if not program.alive and not (self.chaos is not None and self.chaos.expects_down(program)):
                raise DemoFailed(f"{program.name} ended by itself; its last words:\n{program.tail()}")
