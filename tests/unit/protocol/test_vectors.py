"""The bytes on the wire are those that were published, and they verify."""

import json
from typing import Any

import pytest

from pool_protocol import digests, ids, tensors
from pool_protocol.envelope import PayloadType, open_envelope
from pool_protocol.keys import SigningKey, TrustedKeys, VerifyingKey
from pool_protocol.program.manifest import parse_manifest
from pool_protocol.receipts import verify_receipt
from pool_protocol.roots import Role, open_first_root
from pool_protocol.v1 import common_pb2
from tests.vectors.generate_protocol_vectors import VECTORS_PATH, make_vectors

NOW_US = 1_767_225_600_000_000 + 2


@pytest.fixture(scope="module")
def vectors() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(VECTORS_PATH.read_text(encoding="utf-8"))
    return content


def test_the_code_makes_the_published_bytes(vectors: dict[str, Any]) -> None:
    today = json.loads(json.dumps(make_vectors()))
    for name, value in vectors.items():
        assert today[name] == value, f"the bytes of {name} changed on the wire"
    assert today.keys() == vectors.keys()


def test_the_published_bytes_verify(vectors: dict[str, Any]) -> None:
    sealed = vectors["envelope"]
    assert SigningKey.from_seed(bytes.fromhex(sealed["seed"])).public_bytes.hex() == sealed["public_key"]
    verified = open_envelope(
        common_pb2.Envelope.FromString(bytes.fromhex(sealed["envelope"])),
        payload_type=PayloadType.LEASE,
        audience=ids.vehicle_id(bytes(16)),
        keys=TrustedKeys([VerifyingKey.from_hex(sealed["public_key"])]),
        now_us=NOW_US,
    )
    assert verified.body == b"a lease"
    root = open_first_root(bytes.fromhex(vectors["root"]["signed"]), now_us=NOW_US)
    assert root.document.canonical_bytes().decode() == vectors["root"]["document"]
    assert len(root.keys_for(Role.LEASE).key_ids) == 1
    receipt_keys = TrustedKeys([SigningKey.from_seed((2).to_bytes(32, "big")).verifying_key])
    for index, proven in enumerate(vectors["receipts"]["proven"]):
        message = common_pb2.ProvenReceipt.FromString(bytes.fromhex(proven))
        verified_receipt = verify_receipt(message, keys=receipt_keys, now_us=NOW_US, pool_id="pool_a")
        assert verified_receipt.receipt.task_index == index + 1
    arrays = tensors.decode(bytes.fromhex(vectors["tensors"]["safetensors"]))
    assert digests.output_digest(arrays).hex() == vectors["tensors"]["output_digest"]
    assert parse_manifest(vectors["manifest"].encode()).cost.flops == 96
    for case in vectors["merkle"]:
        for index, (leaf, path) in enumerate(zip(case["leaves"], case["proofs"], strict=True)):
            digests.verify_inclusion(
                bytes.fromhex(leaf),
                leaf_index=index,
                leaf_count=len(case["leaves"]),
                inclusion_path=[bytes.fromhex(sibling) for sibling in path],
                root=bytes.fromhex(case["root"]),
            )
