"""Writes `protocol.json`: fixed inputs with the bytes that every implementation must make of them.

Run `python tests/vectors/generate_protocol_vectors.py` after a change that is meant to change bytes on the
wire, and say in the commit why old vehicles can live with it. A test compares the file with what the code
makes today.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from pool_protocol import digests, ids, tensors
from pool_protocol.envelope import EnvelopeHeader, PayloadType, seal_envelope
from pool_protocol.keys import SigningKey, signing_input
from pool_protocol.program.manifest import (
    Argument,
    CustomCalls,
    Group,
    Output,
    ProgramCost,
    ProgramDraft,
    ProgramKind,
    ProgramManifest,
    TensorType,
)
from pool_protocol.receipts import Receipt, receipt_bytes, seal_batch
from pool_protocol.roots import Role, RootDocument, build_root

VECTORS_PATH = Path(__file__).with_name("protocol.json")
_NOW_US = 1_767_225_600_000_000
_NONCE = bytes(range(16))


def _key(number: int) -> SigningKey:
    return SigningKey.from_seed(number.to_bytes(32, "big"))


def _envelope() -> dict[str, Any]:
    header = EnvelopeHeader(
        issuer="pool_a",
        audience=ids.vehicle_id(bytes(16)),
        nonce=_NONCE,
        sequence=7,
        issued_at_us=_NOW_US,
        expires_at_us=_NOW_US + 60_000_000,
    )
    envelope = seal_envelope(b"a lease", payload_type=PayloadType.LEASE, header=header, key=_key(1))
    return {
        "seed": (1).to_bytes(32, "big").hex(),
        "public_key": _key(1).public_bytes.hex(),
        "key_id": _key(1).key_id,
        "signing_input": signing_input(PayloadType.LEASE, envelope.header, envelope.body).hex(),
        "envelope": envelope.SerializeToString(deterministic=True).hex(),
    }


def _tensors() -> dict[str, Any]:
    arrays = {
        "weights": np.arange(6, dtype=np.float32).reshape(2, 3),
        "flag": np.array(True),
        "empty": np.zeros((0, 2), np.int64),
        "odd": np.array([np.nan, -0.0, 0.0, np.inf], np.float64),
    }
    return {
        "safetensors": tensors.encode(arrays).hex(),
        "output_digest": digests.output_digest(arrays).hex(),
        "state_digest": digests.state_digest(
            arrays, job_id="job_12", program_sha256="ab" * 32, task_index=3, unit_index=4
        ).hex(),
    }


def _merkle() -> list[dict[str, Any]]:
    cases = []
    for count in (0, 1, 2, 3, 7, 8):
        leaves = [bytes([n]) * n for n in range(count)]
        cases.append(
            {
                "leaves": [leaf.hex() for leaf in leaves],
                "root": digests.merkle_root(leaves).hex(),
                "proofs": [
                    [h.hex() for h in path] for path in digests.inclusion_proofs(leaves, range(count))
                ],
            }
        )
    return cases


def _receipts() -> dict[str, Any]:
    leaves = [
        receipt_bytes(
            Receipt(
                pool_id="pool_a",
                attempt_id=ids.AttemptId(number),
                owner_id=ids.owner_id(bytes([number] * 16)),
                vehicle_id=ids.vehicle_id(bytes([number + 1] * 16)),
                job_id=ids.JobId(12),
                task_index=ids.TaskIndex(number),
                program_sha256=ids.ProgramId("cd" * 32),
                output_digest=bytes([number] * 32),
                work_uwu=1_500_001,
                price_micros_per_wu=300,
                gross_micros=451,
                fee_micros=22,
                net_micros=429,
                verified_at_us=_NOW_US,
                transfer_id=ids.TransferId(90 + number),
            )
        )
        for number in (1, 2, 3)
    ]
    batch = seal_batch(
        leaves, batch_id=5, pool_id="pool_a", nonce=_NONCE, issued_at_us=_NOW_US + 1, key=_key(2)
    )
    return {
        "key_id": _key(2).key_id,
        "proven": [batch.proven(index).SerializeToString(deterministic=True).hex() for index in range(3)],
    }


def _root() -> dict[str, Any]:
    document = RootDocument(
        pool_id="pool_a",
        version=1,
        issued_at_us=_NOW_US,
        expires_at_us=_NOW_US + 86_400_000_000,
        keys={role: (_key(number).verifying_key,) for number, role in enumerate(Role, start=10)},
        root_threshold=1,
    )
    return {
        "document": document.canonical_bytes().decode("ascii"),
        "signed": build_root(document, [_key(10)]).hex(),
    }


def _manifest() -> str:
    x = TensorType(name="value", dtype="float32", shape=(2, 3))
    manifest = ProgramManifest(
        draft=ProgramDraft(
            kind=ProgramKind.MAP,
            artifact_sha256=digests.sha256_hex(b"artifact"),
            jax_version="0.10.2",
            calling_convention=10,
            platforms=("cpu",),
            x64=False,
            custom_calls=CustomCalls.NONE,
            arguments=(Argument(group=Group.INPUTS, tensor=x),),
            outputs=(Output(tensor=x),),
            argument_trees={Group.CONSTANTS: None, Group.INPUTS: "*"},
            output_tree="*",
            unit_steps=0,
        ),
        cost=ProgramCost(
            operations={"stablehlo.sine": 1},
            flops=96,
            bytes_moved=48,
            work_uwu=1,
            peak_bytes=48,
            temporary_bytes=0,
            cost_model=1,
        ),
    )
    return manifest.to_json().decode("ascii")


def make_vectors() -> dict[str, Any]:
    """Return all vectors as JSON-ready values."""
    return {
        "envelope": _envelope(),
        "ids": {"owner": ids.owner_id(bytes(range(16))), "job": ids.job_id_text(ids.JobId(12))},
        "manifest": _manifest(),
        "merkle": _merkle(),
        "receipts": _receipts(),
        "root": _root(),
        "tensors": _tensors(),
    }


def vectors_text() -> str:
    """Return the file's contents."""
    return json.dumps(make_vectors(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    VECTORS_PATH.write_text(vectors_text(), encoding="utf-8")
