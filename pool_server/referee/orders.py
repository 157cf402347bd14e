"""Makes orders for the referee: the admitted program, its constants where it takes any, and the arrays."""

import asyncio
from typing import Protocol

from pool_protocol.program.manifest import Group, ProgramManifest
from pool_protocol.tensors import decode
from pool_server.core.comparison import Tensors
from pool_server.core.jobs import TensorRef
from pool_server.ports.referee import RefereeOrder


class ProgramSource(Protocol):
    """Where admitted programs are found."""

    async def artifact(self, program_sha256: str) -> bytes:
        """Return an admitted program's artifact."""
        ...

    async def manifest(self, program_sha256: str) -> ProgramManifest:
        """Return an admitted program's manifest."""
        ...


class BlobSource(Protocol):
    """Where large arrays are found."""

    def get(self, blob_sha256: str) -> bytes:
        """Return a whole blob, checked against its digest."""
        ...


class RefereeOrders:
    """Gathers what runs need."""

    def __init__(self, *, programs: ProgramSource, blobs: BlobSource) -> None:
        """Take where programs and arrays lie."""
        self._programs = programs
        self._blobs = blobs

    async def make(self, program_sha256: str, *, constants: TensorRef, inputs: bytes = b"") -> RefereeOrder:
        """Return the order of a map program; steps and times are for the caller to set.

        Raises:
            PoolError: what the blob store raises.
        """
        manifest = await self._programs.manifest(program_sha256)
        takes_constants = bool(manifest.draft.tensor_types(Group.CONSTANTS))
        return RefereeOrder(
            program_sha256=program_sha256,
            artifact=await self._programs.artifact(program_sha256),
            manifest_json=manifest.to_json(),
            constants=await asyncio.to_thread(self.read, constants) if takes_constants else None,
            inputs=inputs,
        )

    async def make_task(
        self, program_sha256: str, *, constants: TensorRef, inputs: TensorRef, steps: int, unit_steps: int
    ) -> RefereeOrder:
        """Return the order of a whole task, as a vehicle would compute it.

        Raises:
            PoolError: what the blob store raises.
        """
        content = await asyncio.to_thread(self.read, inputs)
        order = await self.make(program_sha256, constants=constants, inputs=content or b"")
        return order._replace(steps=steps, unit_steps=unit_steps)

    def read(self, ref: TensorRef) -> bytes | None:
        """Return arrays as they are kept; None where there are none. Blocking."""
        if ref.inline is not None:
            return ref.inline
        return None if ref.blob_sha256 is None else self._blobs.get(ref.blob_sha256)

    def arrays(self, ref: TensorRef) -> Tensors:
        """Return arrays; blocking."""
        content = self.read(ref)
        return {} if content is None else decode(content)
