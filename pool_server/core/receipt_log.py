"""Which hashes of the log of receipts are kept, and how the rest follows from them.

The log's leaves are the serialized receipts in the order of their numbers: receipt 1 is leaf 0. Their hashes
are kept in tiles of 256 neighbours, one row each; above, the hash of every complete subtree of whole tiles is
a row of its own. So 256 receipts cost about three rows, and a proof reads one or two tiles and one row per
level above: some fifteen for a million leaves. The youngest leaves, fewer than a tile, are hashed from the
receipts themselves.
"""

from collections.abc import Iterator, Mapping, Sequence

from pool_protocol.digests import DIGEST_BYTES, leaf_hash
from pool_protocol.merkle_log import Node, node_hash

TILE_LEVEL = 8
TILE_LEAVES = 1 << TILE_LEVEL
_LEVEL_SHIFT = 48


def node_id(node: Node) -> int:
    """Return the number under which a subtree's hash is kept: its level and its position in one."""
    return (node.level << _LEVEL_SHIFT) | node.position


def tile_of(node: Node) -> int:
    """Return the tile that a subtree below a tile's own level is in."""
    return node.position >> (TILE_LEVEL - node.level)


def tile_bytes(leaves: Sequence[bytes]) -> bytes:
    """Return the hashes of leaves, one behind the other."""
    return b"".join(map(leaf_hash, leaves))


def nodes_in_tile(tile_index: int, leaf_hashes: bytes) -> dict[Node, bytes]:
    """Return all complete subtrees of a tile, which may have fewer leaves than a whole one."""
    level = [leaf_hashes[at : at + DIGEST_BYTES] for at in range(0, len(leaf_hashes), DIGEST_BYTES)]
    nodes: dict[Node, bytes] = {}
    for height in range(TILE_LEVEL + 1):
        first = tile_index << (TILE_LEVEL - height)
        nodes.update({Node(height, first + place): one for place, one in enumerate(level)})
        level = [node_hash(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
    return nodes


def completed_by(
    tile_index: int, tile_root: bytes, kept: Mapping[Node, bytes]
) -> Iterator[tuple[Node, bytes]]:
    """Yield the subtrees that a new whole tile completes, itself first.

    Args:
        tile_index: The tile; all before it are whole.
        tile_root: The hash over its leaves.
        kept: The hashes of the complete subtrees to its left: those of `left_siblings`.
    """
    node, computed = Node(TILE_LEVEL, tile_index), tile_root
    yield node, computed
    while node.position % 2 == 1:
        computed = node_hash(kept[Node(node.level, node.position - 1)], computed)
        node = Node(node.level + 1, node.position // 2)
        yield node, computed


def left_siblings(tile_index: int) -> list[Node]:
    """Return the subtrees of whole tiles that make up everything to the left of a tile."""
    return [
        Node(TILE_LEVEL + level, (tile_index >> level) - 1)
        for level in range(tile_index.bit_length())
        if tile_index >> level & 1
    ]


class CompactRange:
    """The root of a growing list of leaves, from a few hashes: what a check of the whole log walks with."""

    def __init__(self) -> None:
        """Begin with no leaves."""
        self._peaks: list[tuple[int, bytes]] = []
        self.size = 0

    def add(self, hashed_leaf: bytes) -> None:
        """Take the next leaf's hash."""
        level, computed = 0, hashed_leaf
        while self._peaks and self._peaks[-1][0] == level:
            computed = node_hash(self._peaks.pop()[1], computed)
            level += 1
        self._peaks.append((level, computed))
        self.size += 1

    def root(self) -> bytes:
        """Return the root of what was taken; there must be a leaf."""
        computed = self._peaks[-1][1]
        for _, peak in reversed(self._peaks[:-1]):
            computed = node_hash(peak, computed)
        return computed
