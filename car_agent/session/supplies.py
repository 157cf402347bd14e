"""Fetches what a lease names - program, constants, inputs - and keeps it on disk between leases.

Everything is named by its SHA-256 and checked against that name each time it is used, also when it comes from
our own cache; a program is believed only with its admission, which is checked each time too. The cache is
bounded: what was not used longest goes first.
"""

import asyncio
import contextlib
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc.aio
from google.protobuf.message import DecodeError

from car_agent.journal.durable import write_durably
from car_agent.runner.work import AttemptWork, LeaseWork
from car_agent.session.leases import BundleRef, LeasedAttempt, VerifiedLease, check_fits, verify_program
from pool_protocol import digests, limits
from pool_protocol.clock import Clock
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.grpc_status import from_rpc_error
from pool_protocol.program.manifest import ProgramManifest
from pool_protocol.roots import TrustedRoot
from pool_protocol.v1 import common_pb2, fleet_service_pb2

if TYPE_CHECKING:
    from pool_protocol.v1.fleet_service_pb2_grpc import FleetServiceAsyncStub

_FETCH_TIMEOUT_S: Final = 120.0
#: What the inputs of one lease may take in memory.
_LEASE_BYTES_MAX: Final = 512 * limits.MIB
_ADMISSION_SUFFIX: Final = ".admission"


class Supplies:
    """Programs and blobs of one pool."""

    def __init__(self, cache: Path, *, bytes_max: int, clock: Clock) -> None:
        """Keep files under `cache`, at most `bytes_max` of them."""
        self._cache = cache
        self._bytes_max = bytes_max
        self._clock = clock

    async def fetch(
        self,
        lease: VerifiedLease,
        stub: "FleetServiceAsyncStub",
        *,
        root: TrustedRoot,
        without: frozenset[int] = frozenset(),
    ) -> LeaseWork:
        """Return a lease with all that its attempts need, except the attempts in `without`.

        Raises:
            PoolError: what `verify_program` raises, BLOB_DIGEST_MISMATCH, TENSORS_TOO_LARGE, or the code of a
                failed call.
        """
        artifact, admission, manifest = await self._program(lease.program_sha256, stub, root)
        check_fits(lease, manifest)
        wanted = [attempt for attempt in lease.attempts if attempt.attempt_id not in without]
        if sum(attempt.inputs.size_bytes for attempt in wanted) > _LEASE_BYTES_MAX:
            raise PoolError(ErrorCode.TENSORS_TOO_LARGE, "the inputs of the lease do not fit into memory")
        constants = await self._tensors(lease.constants, stub) if lease.constants else b""
        return LeaseWork(
            lease_id=lease.lease_id,
            program_sha256=lease.program_sha256,
            artifact=artifact,
            manifest_json=common_pb2.ProgramAdmissionBody.FromString(admission.body).manifest,
            manifest=manifest,
            constants_sha256=digests.sha256_hex(constants) if constants else "",
            constants=constants,
            attempts=[await self._attempt(lease, attempt, stub) for attempt in wanted],
            expires_at_us=lease.expires_at_us,
        )

    async def _attempt(
        self,
        lease: VerifiedLease,
        attempt: LeasedAttempt,
        stub: "FleetServiceAsyncStub",
    ) -> AttemptWork:
        return AttemptWork(
            lease_id=lease.lease_id,
            attempt_id=attempt.attempt_id,
            inputs=await self._tensors(attempt.inputs, stub),
            steps=attempt.steps,
            unit_steps=attempt.unit_steps,
            work_uwu=attempt.work_uwu,
        )

    # --- programs ------------------------------------------------------------------------------

    async def _program(
        self, program_sha256: str, stub: "FleetServiceAsyncStub", root: TrustedRoot
    ) -> tuple[bytes, common_pb2.Envelope, ProgramManifest]:
        with contextlib.suppress(OSError, DecodeError, PoolError):
            # From the cache, checked as if it came from the wire; whatever is wrong is fetched again.
            artifact = self._read(program_sha256)
            admission = common_pb2.Envelope.FromString(self._read(program_sha256 + _ADMISSION_SUFFIX))
            return artifact, admission, self._verified(artifact, admission, program_sha256, root)
        try:
            answer = await stub.GetProgram(
                fleet_service_pb2.GetProgramRequest(program_sha256=program_sha256), timeout=_FETCH_TIMEOUT_S
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        manifest = self._verified(answer.artifact, answer.admission, program_sha256, root)
        self._keep(program_sha256, answer.artifact)
        self._keep(program_sha256 + _ADMISSION_SUFFIX, answer.admission.SerializeToString())
        return answer.artifact, answer.admission, manifest

    def _verified(
        self, artifact: bytes, admission: common_pb2.Envelope, program_sha256: str, root: TrustedRoot
    ) -> ProgramManifest:
        return verify_program(
            artifact, admission, program_sha256=program_sha256, root=root, now_us=self._clock.now_us()
        )

    # --- tensors -------------------------------------------------------------------------------

    async def _tensors(self, bundle: BundleRef, stub: "FleetServiceAsyncStub") -> bytes:
        if not bundle.blob_sha256:
            return bundle.inline
        with contextlib.suppress(OSError, PoolError):
            return await asyncio.to_thread(self._checked_blob, bundle.blob_sha256)
        content = await self._download(bundle, stub)
        await asyncio.to_thread(digests.verify_sha256_hex, content, bundle.blob_sha256)
        await asyncio.to_thread(self._keep, bundle.blob_sha256, content)
        return content

    def _checked_blob(self, blob_sha256: str) -> bytes:
        content = self._read(blob_sha256)
        digests.verify_sha256_hex(content, blob_sha256)
        return content

    async def _download(self, bundle: BundleRef, stub: "FleetServiceAsyncStub") -> bytes:
        content = bytearray()
        call = stub.GetBlob(
            fleet_service_pb2.FleetServiceGetBlobRequest(blob_sha256=bundle.blob_sha256),
            timeout=_FETCH_TIMEOUT_S,
        )
        try:
            async for piece in call:
                content += piece.chunk
                if len(content) > bundle.size_bytes:
                    call.cancel()
                    raise PoolError(ErrorCode.BLOB_DIGEST_MISMATCH, "the blob is longer than the lease says")
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        return bytes(content)

    # --- the cache on disk ---------------------------------------------------------------------

    def _read(self, name: str) -> bytes:
        path = self._cache / name
        content = path.read_bytes()
        os.utime(path)
        return content

    def _keep(self, name: str, content: bytes) -> None:
        """Keep a file and make room. A disk that refuses only costs the next fetch."""
        with contextlib.suppress(OSError):
            self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_durably(self._cache / name, content)
            self._make_room(keep=name)

    def _make_room(self, *, keep: str) -> None:
        files = [(path, path.stat()) for path in self._cache.iterdir() if not path.name.startswith(".")]
        total = sum(stat.st_size for _, stat in files)
        for path, stat in sorted(files, key=lambda entry: entry[1].st_mtime_ns):
            if total <= self._bytes_max:
                return
            if path.name != keep:
                path.unlink(missing_ok=True)
                total -= stat.st_size


def shortened(
    work: LeaseWork,
    *,
    lease_id: str,
    units: int,
    expires_at_us: int,
    first_unit: int = 0,
    start: bytes = b"",
) -> LeaseWork:
    """Return work that ends after so many units, under a name of its own: its outputs are the state then.

    Args:
        work: The whole of it, one attempt.
        lease_id: The name.
        units: In all, those that are made already included.
        expires_at_us: When nobody waits for it any more.
        first_unit: How many are made already.
        start: The state after those; not looked at where there are none.
    """
    return replace(
        work,
        lease_id=lease_id,
        expires_at_us=expires_at_us,
        attempts=[
            replace(
                attempt,
                lease_id=lease_id,
                steps=min(attempt.steps, units * attempt.unit_steps) - first_unit * attempt.unit_steps,
                first_unit=first_unit,
                start=start if first_unit else b"",
            )
            for attempt in work.attempts
        ],
    )
