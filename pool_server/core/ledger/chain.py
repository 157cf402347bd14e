"""The hash chain: which bytes of a transfer are hashed, and how one hash leads to the next.

`canonical` is a fixed-size record, big-endian, that begins with a format tag and the sequence number, so that
a transfer can be neither altered nor moved nor dropped unseen. It is stored and hashed as stored; nothing is
serialized again to verify. Accounts have a chain of their own over their names, since transfers name them by
number.
"""

import hashlib
import struct

from pool_server.core.ledger.model import AccountSpec, LedgerHead, TransferRow

#: Tag, sequence, kind, code, debit, credit, amount, pending, reference, round, timeout, time.
_TRANSFER = struct.Struct(">4sQBHQQQQQHQQ")
_TRANSFER_TAG = b"CPT1"
_ACCOUNT = struct.Struct(">4sQHBBQQ")
_ACCOUNT_TAG = b"CPA1"

GENESIS_HASH = bytes(32)
EMPTY_HEAD = LedgerHead(transfer_id=0, chain_hash=GENESIS_HASH, recorded_at_us=0)

pack_transfer = _TRANSFER.pack


def canonical_bytes(row: TransferRow) -> bytes:
    """Return the bytes of a transfer that the chain hashes, from its columns."""
    return _TRANSFER.pack(
        _TRANSFER_TAG,
        row.transfer_id,
        row.kind,
        row.code,
        row.debit_account_id,
        row.credit_account_id,
        row.amount_micros,
        row.pending_id or 0,
        row.reference_id,
        row.reference_round,
        row.expires_at_us or 0,
        row.recorded_at_us,
    )


def next_hash(previous: bytes, canonical: bytes) -> bytes:
    """Return the chain hash that follows `previous`."""
    return hashlib.sha256(previous + canonical).digest()


def account_bytes(account_id: int, spec: AccountSpec, *, opened_at_us: int) -> bytes:
    """Return the bytes of an account that its chain hashes."""
    flags = spec.debits_must_not_exceed_credits | spec.credits_must_not_exceed_debits << 1
    record = _ACCOUNT.pack(
        _ACCOUNT_TAG, account_id, spec.code, flags, 0, spec.sweep_to_account_id, opened_at_us
    )
    return record + spec.name.encode()
