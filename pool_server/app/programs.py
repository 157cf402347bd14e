"""Admitted programs: found again by what was handed in, stored once, read by their id.

Vetting itself happens outside the server process (`pool_server.admission`) and signing with the program key
in the shell; here an admission is a fact to store.
"""

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.ports.shell import ProgramRecord
from pool_server.ports.unit_of_work import UnitOfWork


def find_submission(uow: UnitOfWork, submission_sha256: str) -> ProgramRecord | None:
    """Return the program that this artifact and draft became before, if they were vetted."""
    return uow.programs.by_submission(submission_sha256)


def record_admission(
    uow: UnitOfWork, program: ProgramRecord, *, submission_sha256: str, artifact_bytes: int, now_us: int
) -> ProgramRecord:
    """Store an admitted program; the first admission of a program stands.

    Args:
        uow: The transaction.
        program: What was admitted.
        submission_sha256: Hash of what was handed in.
        artifact_bytes: Length of the artifact, durable in the blob store already.
        now_us: Wall time.
    """
    uow.blobs.add(program.program_sha256, size_bytes=artifact_bytes, uploader="pool", now_us=now_us)
    uow.programs.add(program)
    uow.programs.remember_submission(submission_sha256, program.program_sha256)
    return require_program(uow, program.program_sha256)


def require_program(uow: UnitOfWork, program_sha256: str) -> ProgramRecord:
    """Return an admitted program.

    Raises:
        PoolError: PROGRAM_NOT_ADMITTED.
    """
    program = uow.programs.get(program_sha256)
    if program is None:
        raise PoolError(
            ErrorCode.PROGRAM_NOT_ADMITTED,
            f"no program {program_sha256[:64]}",
            context={"program_sha256": program_sha256[:64]},
        )
    return program
