"""Signed statements of solvency: what the pool owes, by kind, against what its bank is said to hold.

The pool signs with a receipt key, which makes the statement hard to take back; it does not make the bank's
figure true. That one is entered by an operator, and the statement says of which day it is. What the pool owes
is different: its root commits to every account, and each owner and buyer can check its own balance
(`liabilities`).
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from pool_protocol import liabilities
from pool_protocol.digests import DIGEST_BYTES
from pool_protocol.envelope import ANY_AUDIENCE, PayloadType, open_envelope
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.keys import TrustedKeys
from pool_protocol.limits import MERKLE_LEAVES_MAX
from pool_protocol.v1 import common_pb2, log_service_pb2

VERSION = 1
AmountWriter = Callable[[int, str], str]
"""Writes an amount of micro-units with its currency for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A statement that the pool signed. Only `open_solvency` makes one."""

    statement_id: int
    currency: str
    made_at_us: int
    ledger_sequence: int
    ledger_hash: bytes
    owed: tuple[tuple[str, int], ...]
    """Kind and micro-units."""
    liabilities_micros: int
    liability_count: int
    liability_root: bytes
    bank_micros: int
    bank_as_of: str
    """A day, YYYY-MM-DD."""
    books_micros: int
    tree_size: int
    tree_root: bytes
    envelope: bytes

    @property
    def surplus_micros(self) -> int:
        """What the bank holds above what is owed; negative when it is missing."""
        return self.bank_micros - self.liabilities_micros

    @property
    def solvent(self) -> bool:
        """Whether the bank holds at least what is owed."""
        return self.surplus_micros >= 0

    def to_json(self) -> dict[str, Any]:
        """Return it as every program prints it for scripts."""
        return {
            "statement_id": self.statement_id,
            "made_at_us": self.made_at_us,
            "currency": self.currency,
            "solvent": self.solvent,
            "surplus_micros": self.surplus_micros,
            "bank_micros": self.bank_micros,
            "bank_as_of": self.bank_as_of,
            "books_micros": self.books_micros,
            "liabilities_micros": self.liabilities_micros,
            "liabilities": dict(self.owed),
        }

    def sentence(self, write: AmountWriter) -> str:
        """Say it in plain words; `write` is `amounts.amount`, where that is installed."""
        return solvency_sentence(
            write,
            bank_micros=self.bank_micros,
            bank_as_of=self.bank_as_of,
            liabilities_micros=self.liabilities_micros,
            currency=self.currency,
        )


def solvency_sentence(
    write: AmountWriter, *, bank_micros: int, bank_as_of: str, liabilities_micros: int, currency: str
) -> str:
    """Say in plain words whether a bank balance covers what is owed."""
    surplus = bank_micros - liabilities_micros
    verdict = (
        f"Solvent: {write(surplus, currency)} more than is owed."
        if surplus >= 0
        else f"INSOLVENT by {write(-surplus, currency)}."
    )
    return (
        f"{verdict} The bank held {write(bank_micros, currency)} on {bank_as_of}; "
        f"{write(liabilities_micros, currency)} are owed."
    )


def open_solvency(
    envelope: common_pb2.Envelope, *, keys: TrustedKeys, now_us: int, pool_id: str
) -> Statement:
    """Return a statement after checking all that can be checked of it alone.

    1. It is signed by one of the receipt keys, by this pool, and not in the future.
    2. Only now it is parsed; its version is known and it is well-formed.
    3. No kind of liability is negative or named twice, and they add up to the total.
    4. It was signed when it says that it was made.

    Raises:
        PoolError: what `open_envelope` raises; SOLVENCY_INVALID for steps 2 to 4.
    """
    opened = open_envelope(
        envelope,
        payload_type=PayloadType.SOLVENCY,
        audience=ANY_AUDIENCE,
        keys=keys,
        now_us=now_us,
        issuer=pool_id,
        may_be_eternal=True,
    )
    try:
        body = log_service_pb2.SolvencyBody.FromString(opened.body)
    except DecodeError as error:
        raise _refused("it cannot be parsed") from error
    if body.version != VERSION:
        raise _refused(f"version {body.version} is not known")
    roots = (body.ledger_hash, body.liability_root, *((body.tree_root,) if body.tree_size else ()))
    if any(len(root) != DIGEST_BYTES for root in roots) or body.liability_count > MERKLE_LEAVES_MAX:
        raise _refused("a hash does not have 32 bytes")
    if body.statement_id == 0 or not _is_day(body.bank_as_of) or not body.currency:
        raise _refused("number, day or currency is missing")
    owed = tuple((one.kind, one.amount_micros) for one in body.liabilities)
    if any(amount < 0 for _, amount in owed) or len({kind for kind, _ in owed}) != len(owed):
        raise _refused("a kind of liability is negative, or stands there twice")
    if sum(amount for _, amount in owed) != body.liabilities_micros:
        raise _refused(f"its liabilities are not {body.liabilities_micros} in all")
    if body.made_at_us != opened.header.issued_at_us:
        raise _refused("it names two times")
    return Statement(
        statement_id=body.statement_id,
        currency=body.currency,
        made_at_us=body.made_at_us,
        ledger_sequence=body.ledger_sequence,
        ledger_hash=body.ledger_hash,
        owed=owed,
        liabilities_micros=body.liabilities_micros,
        liability_count=body.liability_count,
        liability_root=body.liability_root,
        bank_micros=body.bank_micros,
        bank_as_of=body.bank_as_of,
        books_micros=body.books_micros,
        tree_size=body.tree_size,
        tree_root=body.tree_root,
        envelope=envelope.SerializeToString(),
    )


def verify_counted(proof: log_service_pb2.LiabilityProof, statement: Statement) -> int:
    """Return the balance that a statement provably counts for an account.

    Raises:
        PoolError: PROOF_INVALID.
    """
    return liabilities.verify_liability(
        liabilities.LiabilityProof(
            account=proof.account,
            balance_micros=proof.balance_micros,
            salt=proof.salt,
            leaf_index=proof.leaf_index,
            path=tuple(liabilities.SumNode(node.hash, node.sum_micros) for node in proof.path),
        ),
        root=statement.liability_root,
        total_micros=statement.liabilities_micros,
        leaf_count=statement.liability_count,
    )


def _is_day(text: str) -> bool:
    try:
        return dt.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _refused(reason: str) -> PoolError:
    return PoolError(ErrorCode.SOLVENCY_INVALID, f"not a valid statement: {reason}")
