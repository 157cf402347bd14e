"""Checks the log of receipts against the receipts: every kept hash and every signed head, made anew."""

from pool_protocol.digests import leaf_hash
from pool_server.app.receipt_log import hashes_in
from pool_server.core.ledger.audit import Check, Finding
from pool_server.core.receipt_log import TILE_LEAVES, CompactRange
from pool_server.ports.unit_of_work import UnitOfWork


def check_receipt_log(uow: UnitOfWork) -> Check:
    """Walk all receipts once; compare tiles and the roots of all signed heads with what they hash to."""
    finding = Finding("log_heads_match_receipts")
    heads = {head.tree_size: head for head in uow.receipt_log.all_heads()}
    head_count, tile_count = len(heads), uow.receipt_log.tile_count()
    tree = CompactRange()
    tile: list[bytes] = []
    signed_at_us = 0
    for row in uow.receipts.all_receipts():
        hashed = leaf_hash(row.receipt)
        tree.add(hashed)
        tile.append(hashed)
        if len(tile) == TILE_LEAVES:
            index = tree.size // TILE_LEAVES - 1
            if index < tile_count and hashes_in(uow.receipt_log.tiles([index]).get(index, b"")) != tile:
                finding.add(f"tile {index} does not hold the hashes of its receipts")
            tile = []
        head = heads.pop(tree.size, None)
        if head is None:
            continue
        if head.root_hash != tree.root():
            finding.add(f"the signed head of size {head.tree_size} has another root than the receipts")
        if head.signed_at_us < max(signed_at_us, row.verified_at_us):
            finding.add(f"the signed head of size {head.tree_size} is older than what it covers")
        signed_at_us = head.signed_at_us
    for tree_size in sorted(heads):
        finding.add(f"a head of size {tree_size} was signed, there are {tree.size} receipts")
    if tile_count > tree.size // TILE_LEAVES:
        finding.add(f"{tile_count} tiles are kept of {tree.size} receipts")
    return finding.check(f"{head_count} signed heads, {tile_count} tiles")
