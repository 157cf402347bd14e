"""Programs as buyers and vehicles call for them: admitted once, found again; inputs held to manifests."""

import asyncio
import hashlib
import logging
import struct
from collections import OrderedDict
from collections.abc import Sequence

from pool_protocol import limits, tensors
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.program.manifest import (
    Group,
    ProgramManifest,
    TensorType,
    check_tensors,
    parse_draft,
    parse_manifest,
)
from pool_protocol.v1 import common_pb2
from pool_server.admission.queue import AdmissionQueue
from pool_server.app.programs import find_submission, record_admission, require_program
from pool_server.core.jobs import TensorRef
from pool_server.identity.signing import PoolSigner
from pool_server.ports.shell import BlobStore, ProgramRecord
from pool_server.rpc.store_access import StoreAccess

_log = logging.getLogger(__name__)
_STATE_PREFIX = "state/"
#: Artifacts and manifests kept in memory: a fleet asks for the same few programs all the time.
_CACHED_MAX = 64


class ProgramDesk:
    """Admits programs and knows their manifests."""

    def __init__(
        self, *, store: StoreAccess, blob_store: BlobStore, queue: AdmissionQueue, signer: PoolSigner
    ) -> None:
        self._store = store
        self._blob_store = blob_store
        self._queue = queue
        self._signer = signer
        self._manifests: OrderedDict[str, ProgramManifest] = OrderedDict()
        self._artifacts: OrderedDict[str, bytes] = OrderedDict()

    async def admit(self, artifact: bytes, manifest_draft: bytes) -> ProgramRecord:
        """Return the admitted program, vetted now unless the same was handed in before.

        Raises:
            PoolError: PROGRAM_TOO_LARGE; RATE_LIMITED; ADMISSION_FAILED; what vetting finds.
        """
        allowed = limits.PROGRAM_LIMITS
        if len(artifact) > allowed.artifact_bytes_max or len(manifest_draft) > allowed.manifest_bytes_max:
            raise PoolError(
                ErrorCode.PROGRAM_TOO_LARGE,
                f"{len(artifact)} bytes of artifact, {len(manifest_draft)} of draft",
            )
        submission_sha256 = _submission_sha256(artifact, manifest_draft)
        known = await self._store.read(lambda uow: find_submission(uow, submission_sha256))
        if known is not None:
            return known
        draft = parse_draft(manifest_draft)
        admitted = await self._queue.vet(artifact, draft)
        program_sha256 = admitted.manifest.program_id
        _log.info(
            "program %s passes; its probe of two chunkings: %s",
            program_sha256,
            admitted.chunking or "none for a map program",
            extra={"action": "program_vetted", "chunking": admitted.chunking},
        )
        manifest_json = admitted.manifest.to_json()
        await asyncio.to_thread(self._blob_store.put, admitted.artifact, blob_sha256=program_sha256)
        now_us = self._store.now_us()
        body = common_pb2.ProgramAdmissionBody(
            artifact_sha256=program_sha256, manifest=manifest_json
        ).SerializeToString()
        record = ProgramRecord(
            program_sha256=program_sha256,
            kind=admitted.manifest.draft.kind.value,
            work_uwu=admitted.manifest.cost.work_uwu,
            manifest=manifest_json,
            admission=self._signer.admission(body, now_us=now_us),
            admitted_at_us=now_us,
        )
        return await self._store.write(
            lambda uow: record_admission(
                uow,
                record,
                submission_sha256=submission_sha256,
                artifact_bytes=len(admitted.artifact),
                now_us=now_us,
            )
        )

    async def artifact(self, program_sha256: str) -> bytes:
        """Return an admitted program's artifact.

        Raises:
            PoolError: BLOB_MISSING when the blob store has lost it.
        """
        cached = self._artifacts.get(program_sha256)
        if cached is None:
            cached = await asyncio.to_thread(self._blob_store.get, program_sha256)
            self._artifacts[program_sha256] = cached
            if len(self._artifacts) > _CACHED_MAX:
                self._artifacts.popitem(last=False)
        return cached

    async def manifest(self, program_sha256: str) -> ProgramManifest:
        """Return an admitted program's manifest.

        Raises:
            PoolError: PROGRAM_NOT_ADMITTED.
        """
        cached = self._manifests.get(program_sha256)
        if cached is None:
            record = await self._store.read(lambda uow: require_program(uow, program_sha256))
            cached = parse_manifest(record.manifest)
            self._manifests[program_sha256] = cached
            if len(self._manifests) > _CACHED_MAX:
                self._manifests.popitem(last=False)
        return cached

    async def check_inputs(self, manifest: ProgramManifest, references: Sequence[TensorRef]) -> None:
        """Refuse inputs of tasks that are not what the program takes.

        Raises:
            PoolError: a TENSORS_ code; INVALID_ARGUMENT naming the task's place in the batch; BLOB_MISSING.
        """
        await asyncio.to_thread(self._check_all, _input_types(manifest), references, "tasks")

    async def check_constants(self, manifest: ProgramManifest, reference: TensorRef) -> None:
        """Refuse constants that are not what the program takes.

        Raises:
            PoolError: a TENSORS_ code; INVALID_ARGUMENT; BLOB_MISSING.
        """
        types = manifest.draft.tensor_types(Group.CONSTANTS)
        await asyncio.to_thread(self._check_all, types, [reference], "constants")

    def _check_all(self, types: Sequence[TensorType], references: Sequence[TensorRef], field: str) -> None:
        checked_blobs: set[str] = set()
        for place, reference in enumerate(references):
            if reference.blob_sha256 in checked_blobs:
                continue
            try:
                self._check(types, reference)
            except PoolError as error:
                context = {**error.context, "field": field, "place": str(place)}
                raise PoolError(error.code, f"{field} {place}: {error.detail}", context=context) from error
            if reference.blob_sha256 is not None:
                checked_blobs.add(reference.blob_sha256)

    def _check(self, types: Sequence[TensorType], reference: TensorRef) -> None:
        if reference.inline is not None:
            arrays = tensors.decode(reference.inline, limits.INLINE_TENSORS)
        elif reference.blob_sha256 is not None:
            content = self._blob_store.get(reference.blob_sha256)
            if len(content) != reference.size_bytes:
                raise PoolError(
                    ErrorCode.INVALID_ARGUMENT, f"size_bytes {reference.size_bytes} of {len(content)} bytes"
                )
            arrays = tensors.decode(content, limits.BLOB_TENSORS)
        else:
            arrays = {}
        check_tensors(arrays, types, code=ErrorCode.INVALID_ARGUMENT)


def _input_types(manifest: ProgramManifest) -> tuple[TensorType, ...]:
    """Return what a task's bundle holds: the inputs and, for step programs, the initial state, prefixed."""
    draft = manifest.draft
    state = tuple(
        TensorType(name=_STATE_PREFIX + tensor.name, dtype=tensor.dtype, shape=tensor.shape)
        for tensor in draft.tensor_types(Group.STATE)
    )
    return (*draft.tensor_types(Group.INPUTS), *state)


def _submission_sha256(artifact: bytes, manifest_draft: bytes) -> str:
    digest = hashlib.sha256(struct.pack("<Q", len(artifact)))
    digest.update(artifact)
    digest.update(manifest_draft)
    return digest.hexdigest()
