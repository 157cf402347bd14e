"""Hostile programs at the real door: vetted in a sandboxed child, refused by name, and nothing is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.program.admission import AdmittedProgram
from pool_protocol.program.manifest import ProgramDraft
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import market_service_pb2 as pb
from tests.support import hostile_programs
from tests.support.fake_car import ARTIFACT, FakeBuyer, draft_of
from tests.support.pool import PoolHandle, code_of, running_pool


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolHandle]:
    with running_pool(tmp_path_factory.mktemp("admission")) as running:
        yield running


@pytest.fixture(scope="module")
def buyer(pool: PoolHandle) -> FakeBuyer:
    return FakeBuyer.with_money(pool)


def refused(buyer: FakeBuyer, artifact: bytes, draft: bytes, code: ErrorCode) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        buyer.call("AdmitProgram", pb.AdmitProgramRequest(artifact=artifact, manifest_draft=draft))
    assert code_of(refusal.value) == code.value


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "code"),
    [
        (hostile_programs.CALLBACK, ErrorCode.PROGRAM_CALLBACK),
        (hostile_programs.UNKNOWN_CUSTOM_CALL, ErrorCode.PROGRAM_CUSTOM_CALL),
        (hostile_programs.RECURSION, ErrorCode.PROGRAM_RECURSION),
    ],
    ids=["host callback", "unlisted custom call", "recursion"],
)
def test_a_forged_program_is_refused_and_not_kept(buyer: FakeBuyer, module: str, code: ErrorCode) -> None:
    artifact, draft = hostile_programs.forge(module)
    refused(buyer, artifact, draft.to_json(), code)
    with pytest.raises(grpc.RpcError) as unknown:
        buyer.call(
            "GetQuote",
            pb.GetQuoteRequest(
                program_sha256=draft.artifact_sha256,
                task_count=1,
                level=common_pb2.VERIFICATION_LEVEL_STANDARD,
            ),
        )
    assert code_of(unknown.value) == ErrorCode.PROGRAM_NOT_ADMITTED.value


def test_what_is_no_program_is_refused_before_any_child_starts(buyer: FakeBuyer) -> None:
    refused(buyer, b"", b"", ErrorCode.PROGRAM_MANIFEST_INVALID)
    refused(buyer, ARTIFACT, b'{"format":1}', ErrorCode.PROGRAM_MANIFEST_INVALID)
    refused(buyer, ARTIFACT + b"!", draft_of().to_json(), ErrorCode.PROGRAM_DIGEST_MISMATCH)
    refused(buyer, bytes(9 << 20), draft_of().to_json(), ErrorCode.PROGRAM_TOO_LARGE)


def test_a_child_that_fails_by_our_fault_says_so_and_the_next_try_is_fresh(tmp_path: Path) -> None:
    answers = iter([PoolError(ErrorCode.ADMISSION_FAILED, "the child was lost"), None])

    def vet(artifact: bytes, draft: ProgramDraft) -> AdmittedProgram:
        from tests.support.fake_car import vet_without_jax

        error = next(answers)
        if error is not None:
            raise error
        return vet_without_jax(artifact, draft)

    with running_pool(tmp_path, vet=vet) as pool:
        buyer = FakeBuyer.with_money(pool)
        refused(buyer, ARTIFACT, draft_of().to_json(), ErrorCode.ADMISSION_FAILED)
        assert buyer.admit() == draft_of().artifact_sha256
        # Known now: vetting is not asked a third time.
        assert buyer.admit() == draft_of().artifact_sha256
