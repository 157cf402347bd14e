"""What the log of receipts needs of a store and of a signer: hashes, tree heads, statements of solvency.

Everything here is appended and never changed. Which hashes are kept is decided in `core.receipt_log`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pool_server.ports.money import ReceiptRow


class TileRow(NamedTuple):
    """The hashes of neighbouring leaves, a fixed number of them."""

    tile_index: int
    leaf_hashes: bytes


class NodeRow(NamedTuple):
    """The hash of a complete subtree of whole tiles."""

    node_id: int
    node_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedHead:
    """A tree head as it was signed."""

    tree_size: int
    root_hash: bytes
    signed_at_us: int
    signed: bytes
    """The serialized envelope."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SolvencyFacts:
    """What a statement of solvency says, before it is signed."""

    statement_id: int
    """1, 2, 3, ... without gaps."""
    made_at_us: int
    ledger_sequence: int
    ledger_hash: bytes
    liabilities: tuple[tuple[str, int], ...]
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SolvencyRow:
    """A statement of solvency as it is stored."""

    facts: SolvencyFacts
    entered_by: str
    """The operator who entered the bank's figure; empty where an earlier one was used again."""
    signed: bytes
    """The serialized envelope."""
    secret: bytes
    """32 bytes that salts are made of; never told."""
    leaves: bytes
    """Account ids and balances in the order of the tree."""


class LogSigner(Protocol):
    """Signs what the log says. Implemented by the shell with the receipt key."""

    def sign_tree_head(self, *, tree_size: int, root_hash: bytes, now_us: int) -> bytes:
        """Sign a tree head; return the serialized envelope."""
        ...

    def sign_solvency(self, facts: SolvencyFacts, *, currency: str) -> bytes:
        """Sign a statement of solvency; return the serialized envelope."""
        ...


class ReceiptLogRepository(Protocol):
    """Hashes of the log, its tree heads, and the receipts as its leaves."""

    def tile_count(self) -> int:
        """Return how many whole tiles are kept."""
        ...

    def append_tiles(self, tiles: Sequence[TileRow], nodes: Sequence[NodeRow]) -> None:
        """Write whole tiles and the subtrees that they complete.

        Raises:
            InvariantError: one is there already.
        """
        ...

    def tiles(self, indexes: Iterable[int]) -> dict[int, bytes]:
        """Return the leaf hashes of whole tiles by index."""
        ...

    def nodes(self, node_ids: Iterable[int]) -> dict[int, bytes]:
        """Return hashes of subtrees by node id."""
        ...

    def leaves(self, first_index: int, count: int) -> list[bytes]:
        """Return serialized receipts from a log index on, in order, at most `count`."""
        ...

    def logged(
        self, *, owner_id: str, vehicle_id: str, from_log_index: int, tree_size: int, limit: int
    ) -> list[ReceiptRow]:
        """Return a vehicle's receipts in a tree, from a log index on, in order."""
        ...

    def head(self, tree_size: int = 0) -> SignedHead | None:
        """Return the tree head of a size; 0 asks for the newest. None when there is none."""
        ...

    def heads(self, *, before_size: int, limit: int) -> list[SignedHead]:
        """Return tree heads smaller than a size (0: from the newest), the largest first."""
        ...

    def all_heads(self) -> list[SignedHead]:
        """Return all tree heads, the smallest first."""
        ...

    def add_head(self, head: SignedHead) -> None:
        """Write a tree head.

        Raises:
            InvariantError: there is one of this size.
        """
        ...


class SolvencyRepository(Protocol):
    """Statements of solvency."""

    def last(self) -> SolvencyRow | None:
        """Return the newest."""
        ...

    def statement(self, statement_id: int) -> SolvencyRow | None:
        """Return one by its number."""
        ...

    def last_before(self, before_us: int) -> SolvencyRow | None:
        """Return the newest made before a time."""
        ...

    def statements(self, *, before_id: int, limit: int) -> list[SolvencyRow]:
        """Return those with a smaller number (0: from the newest), newest first."""
        ...

    def append(self, row: SolvencyRow) -> None:
        """Write one.

        Raises:
            InvariantError: there is one with this number.
        """
        ...


__all__ = [
    "LogSigner",
    "NodeRow",
    "ReceiptLogRepository",
    "SignedHead",
    "SolvencyFacts",
    "SolvencyRepository",
    "SolvencyRow",
    "TileRow",
]
