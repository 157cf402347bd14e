"""The log's tree: the RFC's recursive definitions as the model, the known roots of RFC 6962's eight leaves,
and proofs that prove one thing and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_protocol import merkle_log
from pool_protocol.digests import inclusion_proof, leaf_hash, merkle_root
from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_protocol.merkle_log import Node, Span

#: The eight leaves that implementations of RFC 6962 have in common, and the roots of the trees over them.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
#: (first size, second size) -> the proof, as other implementations have it.
KNOWN_CONSISTENCY = {
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
    (6, 7): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
}


# --- the RFC's own words, written as they stand there: the model ------------------------------------------


def mth(leaves: Sequence[bytes]) -> bytes:
    """MTH(D[n])."""
    n = len(leaves)
    if n == 0:
        return hashlib.sha256(b"").digest()
    if n == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = largest_power_of_two_below(n)
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH(m, D[n])."""
    n = len(leaves)
    if n == 1:
        return []
    k = largest_power_of_two_below(n)
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def proof(m: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PROOF(m, D[n])."""
    return subproof(m, leaves, b=True)


def subproof(m: int, leaves: Sequence[bytes], *, b: bool) -> list[bytes]:
    """SUBPROOF(m, D[n], b)."""
    n = len(leaves)
    if m == n:
        return [] if b else [mth(leaves)]
    k = largest_power_of_two_below(n)
    if m <= k:
        return [*subproof(m, leaves[:k], b=b), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], b=False), mth(leaves[:k])]


def largest_power_of_two_below(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


# --- a log that keeps the hashes of complete subtrees, as the pool does -----------------------------------


class Kept:
    """Hashes of complete subtrees of some leaves, and which were asked for."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        level = [leaf_hash(leaf) for leaf in leaves]
        self.hashes: dict[Node, bytes] = {}
        self.asked: list[Sequence[Node]] = []
        height = 0
        while level:
            self.hashes.update({Node(height, place): one for place, one in enumerate(level)})
            level = [merkle_log.node_hash(*level[i : i + 2]) for i in range(0, len(level) - 1, 2)]
            height += 1

    def __call__(self, nodes: Sequence[Node]) -> Mapping[Node, bytes]:
        self.asked.append(nodes)
        return {node: self.hashes[node] for node in nodes}


def leaves_of(count: int) -> list[bytes]:
    return [b"leaf %d" % number for number in range(count)]


def code_of(raised: pytest.ExceptionInfo[PoolError]) -> ErrorCode:
    return raised.value.code


def test_the_known_roots_of_rfc_6962() -> None:
    source = Kept(LEAVES)
    for size, root in enumerate(ROOTS):
        assert merkle_log.tree_root(size, source).hex() == root == merkle_root(LEAVES[:size]).hex()
    for (first, second), known in KNOWN_CONSISTENCY.items():
        made = merkle_log.hash_spans(merkle_log.consistency_spans(first, second), source)
        assert [one.hex() for one in made] == known


def test_every_proof_of_every_tree_up_to_forty_leaves_is_the_rfc_s_and_holds() -> None:
    leaves = leaves_of(40)
    source = Kept(leaves)
    roots = [mth(leaves[:size]) for size in range(41)]
    for size in range(1, 41):
        assert merkle_log.tree_root(size, source) == roots[size]
        for index in range(size):
            made = merkle_log.hash_spans(merkle_log.inclusion_spans(index, size), source)
            assert list(made) == path(index, leaves[:size])
            assert made == inclusion_proof(leaves[:size], index)
            merkle_log.verify_inclusion(
                leaf_hash(leaves[index]), leaf_index=index, tree_size=size, path=made, root=roots[size]
            )
        for first in range(1, size + 1):
            made = merkle_log.hash_spans(merkle_log.consistency_spans(first, size), source)
            assert list(made) == proof(first, leaves[:size])
            merkle_log.verify_consistency(
                first_size=first,
                first_root=roots[first],
                second_size=size,
                second_root=roots[size],
                path=made,
            )


@given(st.integers(1, 2**40), st.data())
def test_a_proof_needs_few_hashes_however_large_the_log(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    first = data.draw(st.integers(1, size))
    for spans in (merkle_log.inclusion_spans(index, size), merkle_log.consistency_spans(first, size)):
        assert len(spans) <= size.bit_length() + 1
        nodes = [node for span in spans for node in merkle_log.nodes_of(span)]
        assert len(nodes) <= 2 * size.bit_length()
        for span in spans:
            covered = [(node.position << node.level, (node.position + 1) << node.level) for node in
                       merkle_log.nodes_of(span)]  # fmt: skip
            assert (covered[0][0], covered[-1][1]) == span
            assert all(left[1] == right[0] for left, right in pairwise(covered))


def test_all_that_a_proof_needs_is_asked_for_at_once() -> None:
    source = Kept(leaves_of(100))
    merkle_log.hash_spans(merkle_log.inclusion_spans(3, 100), source)
    assert len(source.asked) == 1


def test_a_log_that_lacks_a_hash_proves_nothing() -> None:
    with pytest.raises(InvariantError):
        merkle_log.hash_spans([Span(0, 3)], lambda _nodes: {})


@pytest.mark.parametrize("call", [
    lambda: merkle_log.inclusion_spans(3, 3),
    lambda: merkle_log.inclusion_spans(-1, 3),
    lambda: merkle_log.consistency_spans(0, 3),
    lambda: merkle_log.consistency_spans(4, 3),
])  # fmt: skip
def test_what_cannot_be_proved_is_refused(call: object) -> None:
    assert callable(call)
    with pytest.raises(PoolError) as raised:
        call()
    assert code_of(raised) is ErrorCode.INVALID_ARGUMENT


def _tampered(hashes: Sequence[bytes]) -> list[list[bytes]]:
    """Every way to flip, drop, add or swap a hash of a proof."""
    changed = [
        [*hashes[:at], bytes([one[0] ^ 1]) + one[1:], *hashes[at + 1 :]] for at, one in enumerate(hashes)
    ]
    dropped = [[*hashes[:at], *hashes[at + 1 :]] for at in range(len(hashes))]
    added = [[*hashes[:at], bytes(32), *hashes[at:]] for at in range(len(hashes) + 1)]
    swapped = [[*hashes[:at], hashes[at + 1], hashes[at], *hashes[at + 2 :]] for at in range(len(hashes) - 1)]
    short = [[*hashes[:at], one[:31], *hashes[at + 1 :]] for at, one in enumerate(hashes)]
    return [*changed, *dropped, *added, *swapped, *short]


@given(st.integers(1, 70), st.data())
def test_an_inclusion_proof_proves_nothing_else(size: int, data: st.DataObject) -> None:
    leaves = leaves_of(size)
    index = data.draw(st.integers(0, size - 1))
    root, good = mth(leaves), path(index, leaves)

    def refused(leaf: bytes, at: int, of: int, hashes: Sequence[bytes], to: bytes) -> bool:
        try:
            merkle_log.verify_inclusion(leaf_hash(leaf), leaf_index=at, tree_size=of, path=hashes, root=to)
        except PoolError as error:
            return error.code is ErrorCode.PROOF_INVALID
        return False

    assert not refused(leaves[index], index, size, good, root)
    for hashes in _tampered(good):
        assert refused(leaves[index], index, size, hashes, root)
    assert refused(b"another leaf", index, size, good, root)
    assert all(refused(leaves[index], at, size, good, root) for at in range(-1, size + 1) if at != index)
    assert refused(leaves[index], index, size, good, bytes(32))


@given(st.integers(1, 70), st.data())
def test_a_consistency_proof_proves_nothing_else(second: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, second))
    leaves = leaves_of(second)
    roots = {size: mth(leaves[:size]) for size in (first, second)}
    good = proof(first, leaves)

    def refused(
        hashes: Sequence[bytes], *, from_size: int = first, from_root: bytes = roots[first],
        to_root: bytes = roots[second],
    ) -> bool:  # fmt: skip
        try:
            merkle_log.verify_consistency(
                first_size=from_size,
                first_root=from_root,
                second_size=second,
                second_root=to_root,
                path=hashes,
            )
        except PoolError as error:
            return error.code is ErrorCode.PROOF_INVALID
        return False

    assert not refused(good)
    for hashes in _tampered(good):
        assert refused(hashes)
    assert refused(good, from_root=bytes(32))
    assert refused(good, to_root=bytes(32))
    # A log that altered, dropped or swapped one of the first leaves cannot prove itself, whatever it sends.
    at = data.draw(st.integers(0, first - 1))
    other = [*leaves[:at], b"altered", *leaves[at + 1 :]]
    for forged in (good, proof(first, other)):
        assert refused(forged, to_root=mth(other))
    assert refused(good, from_size=second + 1)


def test_a_tree_that_shrank_is_no_continuation() -> None:
    leaves = leaves_of(5)
    with pytest.raises(PoolError) as raised:
        merkle_log.verify_consistency(
            first_size=5, first_root=mth(leaves), second_size=4, second_root=mth(leaves[:4]), path=[]
        )
    assert code_of(raised) is ErrorCode.PROOF_INVALID


def test_anything_continues_the_empty_log() -> None:
    root = mth(leaves_of(3))
    assert merkle_log.verify_consistency(
        first_size=0, first_root=merkle_log.EMPTY_ROOT, second_size=3, second_root=root, path=[]
    ) == root  # fmt: skip
    with pytest.raises(PoolError):
        merkle_log.verify_consistency(
            first_size=0, first_root=bytes(32), second_size=3, second_root=root, path=[]
        )
