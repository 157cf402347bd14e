"""What the pool signs about its log and its money. Implements `ports.receipt_log.LogSigner`.

The receipt key signs, not one of its own: a tree head says "these are my receipts", and whoever can sign
receipts can say that anyway; and every root document in the world has just these roles.
"""

from pool_protocol.envelope import ANY_AUDIENCE, EnvelopeHeader, PayloadType, seal_envelope
from pool_protocol.roots import Role
from pool_protocol.solvency import VERSION
from pool_protocol.system import IdSource
from pool_protocol.transparency import seal_tree_head
from pool_protocol.v1 import log_service_pb2
from pool_server.identity.signing import PoolKeys
from pool_server.ports.receipt_log import SolvencyFacts


class ReceiptLogSigner:
    """Seals tree heads and statements of solvency."""

    def __init__(self, *, pool_id: str, keys: PoolKeys, id_source: IdSource) -> None:
        self._pool_id = pool_id
        self._keys = keys
        self._ids = id_source

    def secret(self) -> bytes:
        """Return 32 random bytes: the secret of a statement's salts."""
        return self._ids.random_bytes(32)

    def sign_tree_head(self, *, tree_size: int, root_hash: bytes, now_us: int) -> bytes:
        """Sign a tree head; return the serialized envelope."""
        return seal_tree_head(
            pool_id=self._pool_id,
            tree_size=tree_size,
            root_hash=root_hash,
            timestamp_us=now_us,
            nonce=self._ids.nonce(),
            key=self._keys.key(Role.RECEIPT),
        ).SerializeToString()

    def sign_solvency(self, facts: SolvencyFacts, *, currency: str) -> bytes:
        """Sign a statement of solvency; return the serialized envelope."""
        body = log_service_pb2.SolvencyBody(
            version=VERSION,
            statement_id=facts.statement_id,
            currency=currency,
            made_at_us=facts.made_at_us,
            ledger_sequence=facts.ledger_sequence,
            ledger_hash=facts.ledger_hash,
            liabilities=[
                log_service_pb2.Liability(kind=kind, amount_micros=amount)
                for kind, amount in facts.liabilities
            ],
            liabilities_micros=facts.liabilities_micros,
            liability_count=facts.liability_count,
            liability_root=facts.liability_root,
            bank_micros=facts.bank_micros,
            bank_as_of=facts.bank_as_of,
            books_micros=facts.books_micros,
            tree_size=facts.tree_size,
            tree_root=facts.tree_root,
        )
        header = EnvelopeHeader(
            issuer=self._pool_id,
            audience=ANY_AUDIENCE,
            nonce=self._ids.nonce(),
            sequence=facts.statement_id,
            issued_at_us=facts.made_at_us,
            expires_at_us=0,
        )
        return seal_envelope(
            body.SerializeToString(deterministic=True),
            payload_type=PayloadType.SOLVENCY,
            header=header,
            key=self._keys.key(Role.RECEIPT),
        ).SerializeToString()
