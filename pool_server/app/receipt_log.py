"""The log of receipts: hashed behind the receipts' back, signed now and then, proved on demand.

Receipts are written on the hot path, which does nothing for the log: a sweep reads what was written since,
hashes whole tiles and signs a head over all of it. That costs the commands nothing, takes up the receipts of
a pool that is older than its log, and loses nothing in a crash, since the receipts themselves are what is
hashed. No head is signed that does not continue the one before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pool_protocol import merkle_log
from pool_protocol.digests import DIGEST_BYTES
from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_protocol.limits import LOG_PROOFS_MAX
from pool_protocol.merkle_log import Node
from pool_server.app.receipts import Proven, prove
from pool_server.core.receipt_log import (
    TILE_LEAVES,
    TILE_LEVEL,
    completed_by,
    left_siblings,
    node_id,
    nodes_in_tile,
    tile_bytes,
    tile_of,
)
from pool_server.ports.receipt_log import LogSigner, NodeRow, SignedHead, TileRow
from pool_server.ports.unit_of_work import UnitOfWork

#: Whole tiles that one command hashes: 4,096 receipts take some 10 ms, and other commands come between.
TILES_PER_COMMAND = 16
HEADS_PAGE_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """A receipt's place in a tree, with its proof."""

    log_index: int
    leaf_hash: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedPage:
    """A vehicle's receipts with everything that proves them."""

    receipts: tuple[tuple[Proven, Logged], ...]
    has_more: bool


def keep_log(uow: UnitOfWork, *, signer: LogSigner, head_interval_us: int, now_us: int) -> int:
    """Hash the next receipts, or sign a head when all are hashed; return how much was done, 0 when nothing.

    Raises:
        InvariantError: the receipts no longer are what was signed.
    """
    grown = grow_log(uow)
    if grown:
        return grown
    return sign_head(uow, signer=signer, head_interval_us=head_interval_us, now_us=now_us)


def grow_log(uow: UnitOfWork) -> int:
    """Hash receipts that fill whole tiles; return how many tiles were added."""
    first = uow.receipt_log.tile_count()
    whole = min(TILES_PER_COMMAND, uow.receipts.head().receipt_id // TILE_LEAVES - first)
    if whole <= 0:
        return 0
    leaves = uow.receipt_log.leaves(first * TILE_LEAVES, whole * TILE_LEAVES)
    if len(leaves) != whole * TILE_LEAVES:
        raise InvariantError(f"{len(leaves)} receipts where {whole * TILE_LEAVES} were to be")
    kept: dict[Node, bytes] = {}
    siblings = left_siblings(first)
    known = uow.receipt_log.nodes(map(node_id, siblings))
    kept.update({node: known[node_id(node)] for node in siblings})
    tiles: list[TileRow] = []
    nodes: list[NodeRow] = []
    for offset in range(whole):
        index = first + offset
        hashes = tile_bytes(leaves[offset * TILE_LEAVES : (offset + 1) * TILE_LEAVES])
        tiles.append(TileRow(index, hashes))
        root = nodes_in_tile(index, hashes)[Node(TILE_LEVEL, index)]
        for node, computed in completed_by(index, root, kept):
            kept[node] = computed
            nodes.append(NodeRow(node_id(node), computed))
    uow.receipt_log.append_tiles(tiles, nodes)
    return whole


def sign_head(uow: UnitOfWork, *, signer: LogSigner, head_interval_us: int, now_us: int) -> int:
    """Sign a head over all receipts unless the last one is of them, or is younger than the interval.

    Raises:
        InvariantError: the log no longer continues the last signed head. Nothing is signed: it would be the
            proof of a forgery.
    """
    receipts, last = uow.receipts.head(), uow.receipt_log.head()
    tree_size = receipts.receipt_id
    if tree_size == 0 or (last is not None and last.tree_size == tree_size):
        return 0
    # A clock that was set back must not stop the log until it has caught up.
    if last is not None and last.signed_at_us <= now_us < last.signed_at_us + head_interval_us:
        return 0
    source = LogHashes(uow)
    root = merkle_log.tree_root(tree_size, source)
    if last is not None:
        _check_continues(last, tree_size=tree_size, root=root, source=source)
    # Never earlier than a receipt in it or a head before it, whatever the clock does.
    signed_at_us = max(now_us, receipts.signed_at_us, last.signed_at_us if last is not None else 0)
    signed = signer.sign_tree_head(tree_size=tree_size, root_hash=root, now_us=signed_at_us)
    uow.receipt_log.add_head(
        SignedHead(tree_size=tree_size, root_hash=root, signed_at_us=signed_at_us, signed=signed)
    )
    return 1


def _check_continues(last: SignedHead, *, tree_size: int, root: bytes, source: "LogHashes") -> None:
    try:
        merkle_log.verify_consistency(
            first_size=last.tree_size,
            first_root=last.root_hash,
            second_size=tree_size,
            second_root=root,
            path=merkle_log.hash_spans(merkle_log.consistency_spans(last.tree_size, tree_size), source),
        )
    except PoolError as error:
        raise InvariantError(
            f"the log of {tree_size} receipts does not continue the signed head of {last.tree_size}: "
            f"{error.detail}"
        ) from error


class LogHashes:
    """Reads the hashes of complete subtrees, however many a proof asks for, in three queries at most."""

    def __init__(self, uow: UnitOfWork) -> None:
        """Bind to a transaction."""
        self._log = uow.receipt_log

    def __call__(self, nodes: Sequence[Node]) -> Mapping[Node, bytes]:
        """Return the hashes of these subtrees; those that the log does not have are left out."""
        high = [node for node in nodes if node.level >= TILE_LEVEL]
        kept = self._log.nodes(map(node_id, high))
        hashes = {node: kept[node_id(node)] for node in high if node_id(node) in kept}
        low = [node for node in nodes if node.level < TILE_LEVEL]
        wanted = {tile_of(node) for node in low}
        tiles = self._log.tiles(wanted)
        for index in sorted(wanted - tiles.keys()):
            # The youngest leaves, fewer than a tile.
            tiles[index] = tile_bytes(self._log.leaves(index * TILE_LEAVES, TILE_LEAVES))
        within = {index: nodes_in_tile(index, content) for index, content in tiles.items()}
        hashes.update({node: within[tile_of(node)][node] for node in low if node in within[tile_of(node)]})
        return hashes


def require_head(uow: UnitOfWork, tree_size: int) -> SignedHead | None:
    """Return the head of a size, the newest for 0, None where nothing was signed.

    Raises:
        PoolError: NOT_FOUND for a size that was not signed.
    """
    head = uow.receipt_log.head(tree_size)
    if head is None and tree_size:
        raise PoolError(
            ErrorCode.NOT_FOUND, f"no tree head has the size {tree_size}", context={"field": "tree_size"}
        )
    return head


def list_heads(uow: UnitOfWork, *, before_size: int, limit: int) -> tuple[list[SignedHead], int]:
    """Return heads, the newest first, and before which size the next page begins; 0 at the end."""
    heads = uow.receipt_log.heads(before_size=before_size, limit=limit + 1)
    more = len(heads) > limit
    return heads[:limit], heads[limit - 1].tree_size if more else 0


def prove_inclusion(uow: UnitOfWork, *, tree_size: int, places: Sequence[tuple[int, int]]) -> list[Logged]:
    """Prove that receipts stand in the log.

    Args:
        uow: A transaction.
        tree_size: Of which tree.
        places: Batch id and index in the batch of each receipt.

    Raises:
        PoolError: INVALID_ARGUMENT for a tree that is larger than what was signed, or too many places;
            NOT_FOUND for a receipt that is not in the tree.
    """
    if len(places) > LOG_PROOFS_MAX:
        raise _invalid("places", f"{len(places)} places, {LOG_PROOFS_MAX} are proved at a time")
    _check_size(uow, tree_size, field="tree_size")
    batches = uow.receipts.batches({batch_id for batch_id, _ in places})
    indexes: list[int] = []
    for batch_id, leaf_index in places:
        batch = batches.get(batch_id)
        if batch is None or leaf_index >= batch.leaf_count:
            raise PoolError(ErrorCode.NOT_FOUND, f"no receipt {leaf_index} in batch {batch_id}")
        log_index = batch.first_receipt_id - 1 + leaf_index
        if log_index >= tree_size:
            raise PoolError(ErrorCode.NOT_FOUND, f"receipt {leaf_index} of batch {batch_id} came later")
        indexes.append(log_index)
    return _prove_indexes(uow, tree_size=tree_size, indexes=indexes)


def _prove_indexes(uow: UnitOfWork, *, tree_size: int, indexes: Sequence[int]) -> list[Logged]:
    """Prove leaves; all hashes of all proofs are read at once."""
    spans = [merkle_log.inclusion_spans(index, tree_size) for index in indexes]
    needed = sorted({*(span for one in spans for span in one)})
    leaves = {index: Node(0, index) for index in indexes}
    nodes = sorted({*(node for span in needed for node in merkle_log.nodes_of(span)), *leaves.values()})
    hashes = LogHashes(uow)(nodes)
    known = dict(zip(needed, merkle_log.hash_spans(needed, lambda _wanted: hashes), strict=True))
    return [
        Logged(log_index=index, leaf_hash=hashes[leaves[index]], path=tuple(known[span] for span in one))
        for index, one in zip(indexes, spans, strict=True)
    ]


def prove_consistency(uow: UnitOfWork, *, first_size: int, second_size: int) -> tuple[bytes, ...]:
    """Prove that a tree begins with all of an earlier one.

    Raises:
        PoolError: INVALID_ARGUMENT unless 0 < first <= second <= the size that was signed last.
    """
    _check_size(uow, second_size, field="second_size")
    if not 0 < first_size <= second_size:
        raise _invalid("first_size", f"no proof leads from size {first_size} to {second_size}")
    return merkle_log.hash_spans(merkle_log.consistency_spans(first_size, second_size), LogHashes(uow))


def list_logged(
    uow: UnitOfWork, *, owner_id: str, vehicle_id: str, tree_size: int, from_log_index: int, limit: int
) -> LoggedPage:
    """Return a vehicle's receipts in a tree from an index on, in order, each with its proofs.

    Raises:
        PoolError: INVALID_ARGUMENT for a tree that is larger than what was signed.
    """
    _check_size(uow, tree_size, field="tree_size")
    rows = uow.receipt_log.logged(
        owner_id=owner_id,
        vehicle_id=vehicle_id,
        from_log_index=from_log_index,
        tree_size=tree_size,
        limit=limit + 1,
    )
    page = rows[:limit]
    proofs = _prove_indexes(uow, tree_size=tree_size, indexes=[row.receipt_id - 1 for row in page])
    return LoggedPage(receipts=tuple(zip(prove(uow, page), proofs, strict=True)), has_more=len(rows) > limit)


def _check_size(uow: UnitOfWork, tree_size: int, *, field: str) -> None:
    head = uow.receipt_log.head()
    newest = 0 if head is None else head.tree_size
    if not 0 < tree_size <= newest:
        raise _invalid(field, f"no tree of {tree_size} leaves was signed, the newest has {newest}")


def _invalid(field: str, reason: str) -> PoolError:
    return PoolError(ErrorCode.INVALID_ARGUMENT, reason, context={"field": field})


def hashes_in(leaf_hashes: bytes) -> list[bytes]:
    """Return a tile's hashes one by one."""
    return [leaf_hashes[at : at + DIGEST_BYTES] for at in range(0, len(leaf_hashes), DIGEST_BYTES)]
