"""Digests: known answers, canonical arrays, and Merkle proofs that hold for every leaf and nothing else."""

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pool_protocol import digests
from pool_protocol.errors import ErrorCode, PoolError


def test_a_wrong_digest_is_refused_and_names_the_real_one() -> None:
    with pytest.raises(PoolError) as raised:
        digests.verify_sha256_hex(b"abc", "0" * 64)
    assert raised.value.code is ErrorCode.BLOB_DIGEST_MISMATCH
    assert raised.value.context["sha256"] == hashlib.sha256(b"abc").hexdigest()
    assert digests.verify_sha256_hex(b"abc", hashlib.sha256(b"abc").hexdigest())


def _digest(**tensors: NDArray[Any]) -> bytes:
    return digests.output_digest(tensors)


def test_digest_ignores_storage_but_nothing_else() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    base = _digest(x=x)
    assert base == _digest(x=np.asfortranarray(x))
    assert base == _digest(x=x.astype(">f4"))
    assert base == _digest(x=np.arange(12, dtype=np.float32)[::2].reshape(2, 3) / np.float32(2))
    assert base != _digest(y=x)
    assert base != _digest(x=x.reshape(3, 2))
    assert base != _digest(x=x.astype(np.float64))
    assert base != _digest(x=x, y=x)
    changed = x.copy()
    changed[1, 2] = np.nextafter(changed[1, 2], np.float32(9))
    assert base != _digest(x=changed)


def test_digest_takes_all_nan_as_one_and_both_zeros_as_two() -> None:
    quiet = np.array([0x7FC00000], dtype=np.uint32).view(np.float32)
    payload = np.array([0xFFC12345], dtype=np.uint32).view(np.float32)
    assert _digest(x=quiet) == _digest(x=payload)
    assert _digest(x=np.array([0.0])) != _digest(x=np.array([-0.0]))
    one, two = np.array([complex(np.nan, 1)], np.complex64), np.array([complex(np.nan, 2)], np.complex64)
    assert _digest(x=one) != _digest(x=two)


def test_digest_normalises_nan_of_bfloat16() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    patterns = [np.array([bits], np.uint16).view(ml_dtypes.bfloat16) for bits in (0x7FC0, 0xFFC1)]
    assert _digest(x=patterns[0]) == _digest(x=patterns[1])


@given(st.lists(st.floats(width=32), min_size=4, max_size=4), st.integers(-5, 5))
def test_the_digester_of_many_results_gives_the_same_digests(values: list[float], number: int) -> None:
    tensors: dict[str, NDArray[Any]] = {
        "b": np.array(values, np.float32).reshape(2, 2),
        "a": np.asarray(number, np.int64),
        "empty": np.zeros((0, 3), np.float64),
    }
    digester = digests.OutputDigester({name: (array.dtype, array.shape) for name, array in tensors.items()})
    contents = [tensors[name].tobytes() for name in digester.names]
    assert digester.digest(contents) == digests.output_digest(tensors)
    with pytest.raises(PoolError):
        digests.OutputDigester({"c": (np.dtype(np.complex64), (1,))})


def test_scalar_and_empty_arrays_have_their_own_digests() -> None:
    seen = {
        _digest(),
        _digest(x=np.asarray(np.float32(1))),
        _digest(x=np.ones(1, np.float32)),
        _digest(x=np.ones((0,), np.float32)),
    }
    assert len(seen) == 4


def test_state_digest_is_bound_to_its_place() -> None:
    state = {"w": np.ones(3, np.float32)}

    def at(job_id: str = "job_1", program: str = "a" * 64, task: int = 0, unit: int = 0) -> bytes:
        return digests.state_digest(
            state, job_id=job_id, program_sha256=program, task_index=task, unit_index=unit
        )

    assert len({at(), at(job_id="job_2"), at(program="b" * 64), at(task=1), at(unit=1)}) == 5
    assert at() != digests.output_digest(state)


def _rfc_9162_root(leaves: list[bytes]) -> bytes:
    """The RFC's own recursive definition, as the model to compare with."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    parts = _rfc_9162_root(leaves[:split]) + _rfc_9162_root(leaves[split:])
    return hashlib.sha256(b"\x01" + parts).digest()


@given(st.lists(st.binary(max_size=8), max_size=40))
def test_merkle_root_is_that_of_rfc_9162_and_every_leaf_proves(leaves: list[bytes]) -> None:
    root = digests.merkle_root(leaves)
    assert root == _rfc_9162_root(leaves)
    if leaves:
        at_once = digests.merkle_root_and_proofs(leaves)
        assert at_once == (root, digests.inclusion_proofs(leaves, range(len(leaves))))
    for index, path in enumerate(digests.inclusion_proofs(leaves, range(len(leaves)))):
        assert (
            digests.verify_inclusion(
                leaves[index], leaf_index=index, leaf_count=len(leaves), inclusion_path=path, root=root
            )
            == leaves[index]
        )


@given(st.integers(2, 33), st.data())
def test_a_proof_proves_nothing_else(count: int, data: st.DataObject) -> None:
    leaves = [bytes([i]) for i in range(count)]
    root = digests.merkle_root(leaves)
    index = data.draw(st.integers(0, count - 1))
    path = digests.inclusion_proof(leaves, index)
    other = (index + 1) % count
    flipped = [bytes([path[0][0] ^ 1]) + path[0][1:], *path[1:]]
    for leaf, place, size, proof in (
        (leaves[other], index, count, path),
        (leaves[index], other, count, path),
        (leaves[index], index, count, path[:-1]),
        (leaves[index], index, count, (*path, bytes(32))),
        (leaves[index], index, count, flipped),
        (leaves[index], count, count, path),
        (leaves[index], index, count, (b"short", *path[1:])),
    ):
        with pytest.raises(PoolError) as raised:
            digests.verify_inclusion(leaf, leaf_index=place, leaf_count=size, inclusion_path=proof, root=root)
        assert raised.value.code is ErrorCode.PROOF_INVALID


def test_attack_an_inner_node_passed_off_as_a_leaf() -> None:
    leaves = [b"a", b"b", b"c", b"d"]
    root = digests.merkle_root(leaves)
    forged_leaf = digests.leaf_hash(b"a") + digests.leaf_hash(b"b")
    sibling = digests.inclusion_proof(leaves, 0)[1]
    with pytest.raises(PoolError):
        digests.verify_inclusion(forged_leaf, leaf_index=0, leaf_count=2, inclusion_path=[sibling], root=root)


def test_no_proof_of_a_leaf_that_is_not_there() -> None:
    with pytest.raises(PoolError):
        digests.merkle_root_and_proofs([])
    for leaves, index in (([], 0), ([b"a"], 1), ([b"a"], -1)):
        with pytest.raises(PoolError):
            digests.inclusion_proof(leaves, index)
