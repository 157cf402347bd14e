"""Decides when the numeric probe runs, and what of it may be told to the pool."""

import logging
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from car_agent import __version__
from car_agent.journal.probe_file import ProbeFile, ProbeKey, machine_facts
from car_agent.runner.process import WorkerSettings, worker_environment
from pool_protocol.errors import PoolError
from pool_protocol.numeric import PROBE_VERSION, PROFILE, PROFILE_ENVIRONMENT, Probe

#: A probe that ends its worker is not tried for ever: work goes on without a class.
_TRIES_MAX: Final = 2

_log = logging.getLogger(__name__)


def profile_of(worker: WorkerSettings) -> str:
    """Return the numeric profile of workers: another name where a setting overrides the pinned one."""
    environment = worker_environment(worker)
    pinned = all(environment.get(name) == value for name, value in PROFILE_ENVIRONMENT.items())
    return PROFILE if pinned else "other"


def probe_key(worker: WorkerSettings, *, jaxlib_version: str) -> ProbeKey:
    """Return what a probe depends on, here and now."""
    return ProbeKey(
        agent_version=__version__,
        jaxlib_version=jaxlib_version,
        profile=profile_of(worker),
        platform=worker.platforms,
        machine=machine_facts(),
    )


class NumericProbes:
    """Implements `runner.driver.ProbeDesk`: the probe of this machine, run once and after every change.

    It is due from the start of the agent, until a worker came up and what was found before holds for it, or
    was found anew; and again when a car begins to charge on a machine that was changed meanwhile.
    """

    def __init__(self, file: ProbeFile, worker: WorkerSettings) -> None:
        """Keep what is found in `file`; workers are started with `worker`."""
        self._file = file
        self._worker = worker
        self._tries = 0
        self._runs = False
        self._probe: Probe | None = None
        self._facts = _facts()

    @property
    def current(self) -> Probe | None:
        """What the probe found with the worker that last came up; None before."""
        return self._probe

    @property
    def due(self) -> bool:
        """Whether no work should be asked for yet."""
        return self._probe is None and (self._runs or self._tries < _TRIES_MAX)

    def look(self) -> bool:
        """Look whether the machine or jaxlib was changed; return whether the probe is due."""
        facts = _facts()
        if facts != self._facts:
            self._facts, self._probe, self._tries = facts, None, 0
        return self.due

    def wants(self, jaxlib_version: str) -> bool:
        """Say whether a worker that just came up should run the probe before anything else."""
        key = probe_key(self._worker, jaxlib_version=jaxlib_version)
        kept = self._file.read()
        self._probe = kept[1] if kept is not None and kept[0] == key else None
        if self._probe is not None or self._tries >= _TRIES_MAX:
            return False
        self._tries += 1
        self._runs = True
        return True

    def lost(self, *, killed: bool) -> None:
        """The worker ended before it answered; that it was killed is not the probe's fault."""
        self._runs = False
        self._tries -= int(killed)

    def took(self, jaxlib_version: str, families: Mapping[str, bytes]) -> None:
        """Take the digests that the worker found, by family; none when it could not."""
        self._runs = False
        key = probe_key(self._worker, jaxlib_version=jaxlib_version)
        try:
            probe = Probe(
                probe_version=PROBE_VERSION,
                jaxlib_version=jaxlib_version,
                platform=key.platform,
                profile=key.profile,
                families=families,
            )
        except PoolError as error:
            _log.warning("the numeric probe failed", extra={"detail": error.detail})
            self._tries = _TRIES_MAX
            return
        self._probe, self._tries = probe, 0
        self._file.write(key, probe)
        _log.info("numeric class", extra={"class": probe.class_id})


def _facts() -> tuple[str, str]:
    """Return what an update changes behind a running agent's back."""
    try:
        jaxlib = version("jaxlib")
    except PackageNotFoundError:
        jaxlib = ""
    return machine_facts(), jaxlib
