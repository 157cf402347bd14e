"""The referee: one run at a time, in children of which each belongs to one program, kept warm while in use.

Implements `ports.referee.Referee`. A crash or a hang costs the order that caused it, and its child; the next
order gets a new one. Programs never share a process: one that breaks out of the runtime, within its sandbox,
can lie about itself alone.
"""

import asyncio
import logging
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from pool_protocol.digests import DIGEST_BYTES, output_digest
from pool_protocol.errors import PoolError
from pool_protocol.numeric import PROBE_VERSION, PROFILE, Probe
from pool_protocol.program.manifest import ProgramKind, check_tensors, parse_manifest
from pool_protocol.tensors import decode
from pool_server.ports.referee import RefereeAnswer, RefereeError, RefereeOrder, RefereeReason
from pool_server.referee.frames import Frame
from pool_server.referee.process import ChildSettings, RefereeChild

#: Programs kept compiled, each in a process of a quarter of a gigabyte.
CHILDREN_MAX: Final = 3
#: Orders that may wait or run: beyond that, whoever asks does better by another way of checking.
WAITING_MAX: Final = 32

_log = logging.getLogger(__name__)


class RefereeBench:
    """Runs orders."""

    def __init__(
        self,
        settings: ChildSettings | None = None,
        *,
        children_max: int = CHILDREN_MAX,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        """Start nothing yet: the first order does."""
        self._settings = settings or ChildSettings()
        self._children_max = children_max
        self._waiting_max = waiting_max
        self._waiting = 0
        self._children: OrderedDict[str, RefereeChild] = OrderedDict()
        self._lock = threading.Lock()
        self._closed = False
        self._numeric_class: str | None = None
        # Children die with the thread that started them: this one lives until `close`.
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="referee")

    async def run(self, order: RefereeOrder) -> RefereeAnswer:
        """Run one order, in turn; BUSY where too many wait.

        Raises:
            RefereeError: there are no outputs.
        """
        if self._waiting >= self._waiting_max:
            raise RefereeError(RefereeReason.BUSY, f"{self._waiting} orders wait")
        return await self.run_in_turn(order)

    async def run_in_turn(self, order: RefereeOrder) -> RefereeAnswer:
        """Run one order, however many wait: for who asks one at a time and has no other way of checking.

        Raises:
            RefereeError: there are no outputs.
        """
        if self._closed:
            raise RefereeError(RefereeReason.BUSY, "the referee has ended")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, self.run_now, order)
        finally:
            self._waiting -= 1

    async def numeric_class(self) -> str:
        """Return the numeric class of this machine under the pinned profile; empty where it has none."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._class_now)

    def run_now(self, order: RefereeOrder) -> RefereeAnswer:
        """Run one order on this thread, which must be the only one that does.

        Raises:
            RefereeError: there are no outputs.
        """
        child = self._child_for(order)
        fields = {"steps": order.steps, "unit_steps": order.unit_steps, "first_unit": order.first_unit}
        if (order.steps or order.unit_steps) and not order.unit_steps > 0:
            raise RefereeError(RefereeReason.INPUT, f"{order.steps} steps in units of {order.unit_steps}")
        frame = child.run(fields, constants=order.constants, inputs=order.inputs, timeout_s=order.timeout_s)
        try:
            return _checked(frame, order)
        except (KeyError, PoolError, TypeError, ValueError) as error:
            raise child.nonsense(f"outputs that are none: {error}") from error

    def close(self) -> None:
        """Kill what runs; every order that waits fails."""
        with self._lock:
            self._closed = True
            children = list(self._children.values())
        for child in children:
            child.kill()
        self._executor.shutdown(wait=True, cancel_futures=True)
        for child in children:
            child.close()

    def _child_for(self, order: RefereeOrder) -> RefereeChild:
        """Return the child of a program, started and loaded now unless it is there."""
        child = self._children.get(order.program_sha256)
        if child is not None and child.alive:
            self._children.move_to_end(order.program_sha256)
            return child
        self._forget(order.program_sha256)
        while len(self._children) >= self._children_max:
            self._forget(next(iter(self._children)))
        child = RefereeChild(self._settings)
        with self._lock:
            if self._closed:
                child.close()
                raise RefereeError(RefereeReason.BUSY, "the referee has ended")
            self._children[order.program_sha256] = child
        try:
            child.load(order.program_sha256, order.manifest_json, order.artifact)
        except RefereeError:
            self._forget(order.program_sha256)
            raise
        return child

    def _forget(self, program_sha256: str) -> None:
        with self._lock:
            child = self._children.pop(program_sha256, None)
        if child is not None:
            child.close()

    def _class_now(self) -> str:
        if self._numeric_class is None:
            child = RefereeChild(self._settings)
            try:
                jaxlib_version, families = child.probe()
                probe = Probe(
                    probe_version=PROBE_VERSION,
                    jaxlib_version=jaxlib_version,
                    platform="cpu",
                    profile=PROFILE,
                    families=families,
                )
                self._numeric_class = probe.class_id
            except (PoolError, RefereeError) as error:
                _log.warning("the referee has no numeric class: %s", error, extra={"action": "referee_probe"})
                self._numeric_class = ""
            finally:
                child.close()
        return self._numeric_class


def _checked(frame: Frame, order: RefereeOrder) -> RefereeAnswer:
    """Read an answer as one reads a stranger's message; the digest of the outputs is computed here."""
    draft = parse_manifest(order.manifest_json).draft
    [outputs] = frame.buffers
    arrays = decode(outputs)
    check_tensors(arrays, draft.output_types)
    unit_digests = tuple(bytes.fromhex(text) for text in frame.fields["unit_digests"])
    is_step = draft.kind is ProgramKind.STEP
    units = -(-order.steps // order.unit_steps) if is_step else 0
    if len(unit_digests) != units or any(len(digest) != DIGEST_BYTES for digest in unit_digests):
        raise ValueError(f"{len(unit_digests)} digests of {units} units")
    run_time_us = frame.fields["run_time_us"]
    if type(run_time_us) is not int or run_time_us < 0:
        raise ValueError("a run time that is none")
    return RefereeAnswer(outputs, output_digest(arrays), unit_digests, run_time_us)
