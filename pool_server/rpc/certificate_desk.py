"""Runs the certificates of jobs over results that came in, before anything believes them.

The referee runs them in its sandbox, outside of every transaction. What the findings mean is decided as the
results are recorded (`app.certificates`).
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np

from pool_protocol.errors import PoolError
from pool_protocol.program.manifest import Group
from pool_protocol.tensors import decode, encode
from pool_server.app.certificate_terms import INPUTS_PREFIX, NONCE, OK, OUTPUTS_PREFIX, nonce_words
from pool_server.app.certificates import CertificateCase, CertificateFinding, CertificateVerdict
from pool_server.app.outputs import OutputFinding
from pool_server.app.work_commands import AttemptReport
from pool_server.app.work_policy import BlobReader
from pool_server.core.comparison import Tensors, tensors_agree
from pool_server.core.jobs import AttemptOutcome
from pool_server.ports.referee import Referee, RefereeAnswer, RefereeError, RefereeOrder, RefereeReason
from pool_server.referee.orders import RefereeOrders
from pool_server.rpc.program_desk import ProgramDesk

#: One run of a certificate: it is meant to be much cheaper than the work.
CERTIFICATE_TIMEOUT_S: Final = 20.0
#: The pool's own run of a task whose result a certificate refuses.
TASK_TIMEOUT_S: Final = 120.0
#: Failures that say nothing about the certificate.
_OURS: Final = frozenset({RefereeReason.BUSY})
#: After these the rest of a bundle is not tried: each would take as long again.
_SLOW: Final = frozenset({RefereeReason.TIMEOUT, RefereeReason.CRASH, RefereeReason.BUSY})

_log = logging.getLogger(__name__)


class NonceDraw(Protocol):
    """The secret chance of certificates, bound to what was committed."""

    def nonce(self, *, attempt_id: int, output_digest: bytes, size_bytes: int) -> bytes:
        """Return bytes that nobody can foresee, and that a repeat gives again."""
        ...


class _Run(NamedTuple):
    """A certificate over one task: all but the outputs."""

    order: RefereeOrder
    """Its inputs are missing."""
    taken: frozenset[str]
    given: Tensors
    """The task's arrays and the nonce, under the certificate's names."""


class CertificateDesk:
    """Checks results of certified jobs."""

    def __init__(
        self, *, programs: ProgramDesk, referee: Referee, blob_reader: BlobReader, draws: NonceDraw
    ) -> None:
        self._programs = programs
        self._referee = referee
        self._orders = RefereeOrders(programs=programs, blobs=blob_reader)
        self._draws = draws
        # One at a time: between two of them disputes have their turn at the referee.
        self._turn = asyncio.Lock()

    async def check(
        self,
        case: CertificateCase,
        reports: Sequence[AttemptReport],
        findings: Mapping[int, OutputFinding],
    ) -> dict[int, CertificateFinding]:
        """Check the sound results of a bundle; those without a finding are judged as if uncertified."""
        found: dict[int, CertificateFinding] = {}
        for report in reports:
            known = findings.get(report.attempt_id)
            is_sound = known is not None and not known.fault
            if report.outcome is not AttemptOutcome.COMPLETED or not is_sound:
                continue
            if report.attempt_id not in case.inputs:
                continue
            try:
                found[report.attempt_id] = await self._check_one(case, report)
            except RefereeError as error:
                _log.warning(
                    "the certificate of job %d was not run: %s",
                    case.job.job_id,
                    error,
                    extra={"action": "certificate_failed", "reason": error.reason.value},
                )
                if error.reason not in _OURS:
                    found[report.attempt_id] = _finding(report, CertificateVerdict.FAILED, str(error))
                if error.reason in _SLOW:
                    break
        return found

    async def _check_one(self, case: CertificateCase, report: AttemptReport) -> CertificateFinding:
        """Check one result.

        1. The certificate passes it: proved.
        2. Otherwise the pool runs the task itself. If it cannot, the result is doubted.
        3. The same result, or one that the certificate refuses as well: the certificate is wrong.
        4. Otherwise the result is refuted.

        Raises:
            RefereeError: the certificate does not run.
        """
        run = await self._prepare(case, report)
        outputs = await asyncio.to_thread(self._orders.arrays, report.outputs)
        if await self._passes(run, outputs):
            return _finding(report, CertificateVerdict.PROVED)
        try:
            own = await self._run_task(case, report)
        except (PoolError, RefereeError) as error:
            return _finding(report, CertificateVerdict.DOUBTED, str(error))
        own_outputs = await asyncio.to_thread(decode, own.outputs)
        if tensors_agree(case.job.comparator, outputs, own_outputs) or not await self._passes(
            run, own_outputs
        ):
            return _finding(
                report, CertificateVerdict.FAILED, "it refuses a result that the pool computed itself"
            )
        numeric_class = await self._referee.numeric_class()
        return _finding(report, CertificateVerdict.REFUTED)._replace(referee_class=numeric_class)

    async def _prepare(self, case: CertificateCase, report: AttemptReport) -> _Run:
        certificate = await self._programs.manifest(case.job.certificate_sha256)
        taken = frozenset(tensor.name for tensor in certificate.draft.tensor_types(Group.INPUTS))
        given: dict[str, np.ndarray] = {}
        if any(name.startswith(INPUTS_PREFIX) for name in taken):
            inputs = await asyncio.to_thread(self._orders.arrays, case.inputs[report.attempt_id])
            given |= {INPUTS_PREFIX + name: array for name, array in inputs.items()}
        words = nonce_words(certificate)
        if words:
            nonce = self._draws.nonce(
                attempt_id=report.attempt_id, output_digest=report.output_digest, size_bytes=4 * words
            )
            given[NONCE] = np.frombuffer(nonce, dtype="<u4")
        order = await self._orders.make(case.job.certificate_sha256, constants=case.constants)
        return _Run(order._replace(timeout_s=CERTIFICATE_TIMEOUT_S), taken, given)

    async def _passes(self, run: _Run, outputs: Tensors) -> bool:
        arrays = {**run.given, **{OUTPUTS_PREFIX + name: array for name, array in outputs.items()}}
        inputs = await asyncio.to_thread(encode, {name: arrays[name] for name in run.taken})
        answer = await self._referee.run(run.order._replace(inputs=inputs))
        return bool(decode(answer.outputs)[OK])

    async def _run_task(self, case: CertificateCase, report: AttemptReport) -> RefereeAnswer:
        """Run the task as the vehicle should have.

        Raises:
            PoolError: the blob store has lost something.
            RefereeError: it does not run here, or not in time.
        """
        job = case.job
        order = await self._orders.make_task(
            job.program_sha256,
            constants=case.constants,
            inputs=case.inputs[report.attempt_id],
            steps=job.steps_per_task,
            unit_steps=job.unit_steps,
        )
        async with self._turn:
            return await self._referee.run(order._replace(timeout_s=TASK_TIMEOUT_S))


def _finding(report: AttemptReport, verdict: CertificateVerdict, detail: str = "") -> CertificateFinding:
    return CertificateFinding(report.attempt_id, report.output_digest, verdict, detail)
