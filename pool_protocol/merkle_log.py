"""The Merkle tree of an append-only log, as RFC 9162 (section 2.1) has it: which hashes prove what.

Proofs are made from the hashes of complete subtrees, which never change once their leaves are there. A
subtree is named by its level (0 for leaves) and its position on that level, from the left; whoever keeps a
log keeps these hashes and needs no leaf to prove anything. The functions here say which of them a proof
needs, all at once, so that they can be read in one go; a proof over a million leaves needs some forty.

Pure; where hashes are kept, and who signs a tree's root, is decided elsewhere. Checks raise, they never
return a bool.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from pool_protocol.digests import DIGEST_BYTES
from pool_protocol.errors import ErrorCode, InvariantError, PoolError

_NODE_PREFIX = b"\x01"
EMPTY_ROOT = hashlib.sha256(b"").digest()


class Node(NamedTuple):
    """A complete subtree: the leaves from position * 2**level on, 2**level of them."""

    level: int
    position: int


class Span(NamedTuple):
    """The leaves from `start` up to `end`, without `end`; `start` divides by a power of two >= its width."""

    start: int
    end: int


NodeSource = Callable[[Sequence[Node]], Mapping[Node, bytes]]
"""Returns the hashes of complete subtrees."""


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return hashlib.sha256(_NODE_PREFIX + left + right).digest()


def nodes_of(span: Span) -> list[Node]:
    """Return the complete subtrees that make up a span, from the left: the largest first."""
    nodes: list[Node] = []
    start = span.start
    while start < span.end:
        level = (span.end - start).bit_length() - 1
        nodes.append(Node(level, start >> level))
        start += 1 << level
    return nodes


def _hash_of(span: Span, hashes: Mapping[Node, bytes]) -> bytes:
    """Return MTH of a span: what is complete on the left is a sibling of everything to the right of it."""
    *rest, last = nodes_of(span)
    computed = hashes[last]
    for node in reversed(rest):
        computed = node_hash(hashes[node], computed)
    return computed


def _split(width: int) -> int:
    """Return k, the largest power of two smaller than `width`."""
    return 1 << ((width - 1).bit_length() - 1)


def inclusion_spans(leaf_index: int, tree_size: int) -> list[Span]:
    """Return what the hashes of an inclusion proof cover, from the leaf up: PATH(m, D[n]) of section 2.1.3.1.

    Raises:
        PoolError: INVALID_ARGUMENT when there is no such leaf.
    """
    if not 0 <= leaf_index < tree_size:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, f"no leaf {leaf_index} in a tree of {tree_size}")
    spans: list[Span] = []
    start, end = 0, tree_size
    while end - start > 1:
        middle = start + _split(end - start)
        if leaf_index < middle:
            spans.append(Span(middle, end))
            end = middle
        else:
            spans.append(Span(start, middle))
            start = middle
    return spans[::-1]


def consistency_spans(first_size: int, second_size: int) -> list[Span]:
    """Return what the hashes of a consistency proof cover, in its order: PROOF(m, D[n]) of section 2.1.4.1.

    Raises:
        PoolError: INVALID_ARGUMENT unless 0 < first_size <= second_size.
    """
    if not 0 < first_size <= second_size:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT, f"no proof leads from a tree of {first_size} to one of {second_size}"
        )
    spans: list[Span] = []
    start, end = 0, second_size
    is_known = True  # the verifier has the hash of D[0:m] already, until the way turns right
    while first_size < end:
        middle = start + _split(end - start)
        if first_size <= middle:
            spans.append(Span(middle, end))
            end = middle
        else:
            spans.append(Span(start, middle))
            start = middle
            is_known = False
    if not is_known:
        spans.append(Span(start, end))
    return spans[::-1]


def hash_spans(spans: Iterable[Span], source: NodeSource) -> tuple[bytes, ...]:
    """Return the hashes of spans; all subtrees that they need are asked for at once.

    Raises:
        InvariantError: the source lacks one.
    """
    wanted = list(spans)
    nodes = sorted({node for span in wanted for node in nodes_of(span)})
    hashes = source(nodes)
    missing = [node for node in nodes if node not in hashes]
    if missing:
        raise InvariantError(f"the log lacks the hash of {missing[0]} and of {len(missing) - 1} others")
    return tuple(_hash_of(span, hashes) for span in wanted)


def tree_root(tree_size: int, source: NodeSource) -> bytes:
    """Return the root of the tree of the first `tree_size` leaves."""
    if tree_size == 0:
        return EMPTY_ROOT
    [root] = hash_spans([Span(0, tree_size)], source)
    return root


def verify_inclusion(
    leaf_hash: bytes, *, leaf_index: int, tree_size: int, path: Sequence[bytes], root: bytes
) -> bytes:
    """Return the leaf's hash after checking that it stands at its index: the steps of section 2.1.3.2.

    1. The index is smaller than the tree's size.
    2. `fn` is the index, `sn` the size less one; `r` is the leaf's hash.
    3. For each hash p of the path: when sn is 0, stop and fail. When the lowest bit of fn is set, or fn is
       sn: r is hash(p, r), and unless the bit is set both move right until it is, or fn is 0. Else r is
       hash(r, p). Both move right once.
    4. sn is 0 and r is the root.

    Raises:
        PoolError: PROOF_INVALID.
    """
    if not 0 <= leaf_index < tree_size:
        raise _refused(f"leaf {leaf_index} is not in a tree of {tree_size}")
    _check_lengths((leaf_hash, *path, root))
    fn, sn, r = leaf_index, tree_size - 1, leaf_hash
    for p in path:
        if sn == 0:
            raise _refused("the proof is too long")
        if fn & 1 or fn == sn:
            r = node_hash(p, r)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node_hash(r, p)
        fn, sn = fn >> 1, sn >> 1
    if sn:
        raise _refused("the proof is too short")
    if r != root:
        raise _refused("the proof leads to another root")
    return leaf_hash


def verify_consistency(
    *, first_size: int, first_root: bytes, second_size: int, second_root: bytes, path: Sequence[bytes]
) -> bytes:
    """Return the second root after checking that its tree begins with the first's leaves: section 2.1.4.2.

    1. Of two trees of one size the roots are equal and the path is empty. A path from nothing is empty.
    2. Else the path is not empty. When the first size is a power of two its root stands before the path.
    3. `fn` is the first size less one, `sn` the second; both move right while the lowest bit of fn is set.
    4. fr and sr are the first hash. For each other hash c: when sn is 0, stop and fail. When the lowest bit
       of fn is set, or fn is sn: fr is hash(c, fr), sr is hash(c, sr), and unless the bit is set both move
       right until it is, or fn is 0. Else sr is hash(sr, c). Both move right once.
    5. fr is the first root, sr is the second, and sn is 0.

    Raises:
        PoolError: PROOF_INVALID, also when the second tree is the smaller one.
    """
    if not 0 <= first_size <= second_size:
        raise _refused(f"a tree of {second_size} cannot begin with one of {first_size}")
    _check_lengths((first_root, second_root, *path))
    if first_size in {0, second_size}:
        expected = EMPTY_ROOT if first_size == 0 else second_root
        if path or first_root != expected:
            raise _refused(
                "two trees of one size differ" if first_size else "nothing precedes the first leaf"
            )
        return second_root
    steps = list(path)
    if first_size & (first_size - 1) == 0:
        steps.insert(0, first_root)
    if not path:
        raise _refused("the proof is empty")
    fn, sn = first_size - 1, second_size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = steps[0]
    for c in steps[1:]:
        if sn == 0:
            raise _refused("the proof is too long")
        if fn & 1 or fn == sn:
            fr, sr = node_hash(c, fr), node_hash(c, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, c)
        fn, sn = fn >> 1, sn >> 1
    if sn:
        raise _refused("the proof is too short")
    if fr != first_root:
        raise _refused("the proof does not begin with the first tree")
    if sr != second_root:
        raise _refused("the proof does not lead to the second tree")
    return second_root


def _check_lengths(hashes: Iterable[bytes]) -> None:
    if any(len(one) != DIGEST_BYTES for one in hashes):
        raise _refused("a hash does not have 32 bytes")


def _refused(reason: str) -> PoolError:
    return PoolError(ErrorCode.PROOF_INVALID, reason)
