"""The tree of what a pool owes: a Merkle tree whose nodes carry sums, so that a balance cannot be left out.

A leaf is one account with a balance; every inner node is hashed over both children's hashes *and sums*, and
its sum is theirs. Who finds its own balance under the signed root and adds up the sums on the way knows that
the signed total counts it: a pool that owes more than it says has to leave someone out, and whoever is left
out finds no proof.

A leaf's hash is salted with 32 bytes that only the account's owner and the pool know, new in every statement,
and leaves stand in the order of their hashes. So a proof tells its reader nothing of who the others are; it
does tell the sums of the subtrees beside the way, the nearest of which is one other account's balance.
"""

import hashlib
import hmac
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pool_protocol.digests import DIGEST_BYTES
from pool_protocol.errors import ErrorCode, PoolError

SALT_BYTES = 32
#: A sum of what accounts hold fits the database's integers.
SUM_MICROS_MAX = 2**63 - 1
_LEAF_DOMAIN = b"chargepool/v1/liability-leaf\0"
_NODE_DOMAIN = b"chargepool/v1/liability-node\0"
EMPTY_LIABILITY_ROOT = hashlib.sha256(b"chargepool/v1/liability-none\0").digest()
_SUM = struct.Struct(">q")


class SumNode(NamedTuple):
    """A node: its hash, and the sum of the balances under it."""

    hash: bytes
    sum_micros: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LiabilityProof:
    """Where an account stands in the tree."""

    account: str
    balance_micros: int
    salt: bytes
    leaf_index: int
    path: tuple[SumNode, ...]
    """Siblings from the leaf up."""


def salt_of(secret: bytes, account: str) -> bytes:
    """Return an account's salt in the statement that has this secret."""
    return hmac.new(secret, account.encode(), hashlib.sha256).digest()


def liability_leaf(account: str, balance_micros: int, salt: bytes) -> SumNode:
    """Return the leaf of an account."""
    content = _LEAF_DOMAIN + salt + _SUM.pack(balance_micros) + account.encode()
    return SumNode(hashlib.sha256(content).digest(), balance_micros)


def _parent(left: SumNode, right: SumNode) -> SumNode:
    content = _NODE_DOMAIN + left.hash + _SUM.pack(left.sum_micros) + right.hash + _SUM.pack(right.sum_micros)
    return SumNode(hashlib.sha256(content).digest(), left.sum_micros + right.sum_micros)


class LiabilityTree:
    """All levels of the tree; leaves are put into their order."""

    def __init__(self, leaves: Sequence[SumNode]) -> None:
        """Hash the tree. Balances are positive and their sum fits 64 bits."""
        level = sorted(leaves)
        self._levels = [level]
        while len(level) > 1:
            level = [_parent(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)] + level[
                len(level) - len(level) % 2 :
            ]
            self._levels.append(level)
        self._places = {leaf.hash: place for place, leaf in enumerate(self._levels[0])}

    @property
    def root(self) -> SumNode:
        """The root: its sum is what is owed."""
        return self._levels[-1][0] if self._levels[0] else SumNode(EMPTY_LIABILITY_ROOT, 0)

    @property
    def leaf_count(self) -> int:
        """How many accounts are in it."""
        return len(self._levels[0])

    def prove(self, account: str, balance_micros: int, salt: bytes) -> LiabilityProof:
        """Return where an account stands.

        Raises:
            PoolError: NOT_FOUND when it is not in the tree.
        """
        place = self._places.get(liability_leaf(account, balance_micros, salt).hash)
        if place is None:
            raise PoolError(ErrorCode.NOT_FOUND, f"{account} is not in the tree")
        path: list[SumNode] = []
        position = place
        for level in self._levels[:-1]:
            sibling = position ^ 1
            if sibling < len(level):
                path.append(level[sibling])
            position //= 2
        return LiabilityProof(
            account=account, balance_micros=balance_micros, salt=salt, leaf_index=place, path=tuple(path)
        )


def verify_liability(proof: LiabilityProof, *, root: bytes, total_micros: int, leaf_count: int) -> int:
    """Return the balance after checking that the signed total counts it.

    1. The index is one of the tree's, the salt and all hashes have 32 bytes, no sum is negative.
    2. Leaf and siblings, hashed with their sums in the order that index and count prescribe, lead to the
       root; none is left over.
    3. The sums add up to the total.

    Raises:
        PoolError: PROOF_INVALID.
    """
    if not 0 <= proof.leaf_index < leaf_count or len(proof.salt) != SALT_BYTES:
        raise _refused(f"place {proof.leaf_index} is not one of {leaf_count}, or the salt is not 32 bytes")
    if not 0 < proof.balance_micros <= total_micros <= SUM_MICROS_MAX:
        raise _refused(f"a balance of {proof.balance_micros} is not part of {total_micros}")
    if any(len(node.hash) != DIGEST_BYTES or not 0 <= node.sum_micros <= total_micros for node in proof.path):
        raise _refused("a sibling is not well-formed")
    computed = liability_leaf(proof.account, proof.balance_micros, proof.salt)
    siblings = iter(proof.path)
    position, last = proof.leaf_index, leaf_count - 1
    while last > 0:
        if position % 2 == 1 or position < last:
            sibling = next(siblings, None)
            if sibling is None:
                raise _refused("the proof is too short")
            computed = _parent(sibling, computed) if position % 2 == 1 else _parent(computed, sibling)
            if computed.sum_micros > total_micros:
                raise _refused("the sums on the way are more than the total")
        position, last = position // 2, last // 2
    if next(siblings, None) is not None:
        raise _refused("the proof is too long")
    if computed.hash != root:
        raise _refused("the proof leads to another root")
    if computed.sum_micros != total_micros:
        raise _refused(f"the tree adds up to {computed.sum_micros}, the statement says {total_micros}")
    return proof.balance_micros


def _refused(reason: str) -> PoolError:
    return PoolError(ErrorCode.PROOF_INVALID, reason)
