"""The pool's log of receipts as a buyer follows it, and what this machine remembers of it.

    $XDG_STATE_HOME/chargepool/logs/<pool>/memory.json        roots, the newest trusted head, since when
    $XDG_STATE_HOME/chargepool/logs/<pool>/conflict-<n>.json  two signed heads that contradict each other

Without the memory everything can still be checked; with it a pool that rewrites its log between two days is
caught as well, and receipts can be checked offline against a root that does not come with them. What follows
from which answer is decided in `pool_protocol.log_follow`.
"""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.message import Message

from chargepool._errors import ChargepoolError, PoolUnreachable, ProofInvalid, from_pool_error
from chargepool._receipts import RootTrust
from chargepool._records import write_privately
from pool_protocol import log_follow
from pool_protocol.clock import Clock
from pool_protocol.digests import sha256_hex
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.log_audit import KeptReceipt
from pool_protocol.roots import Role, TrustedRoot, open_first_root
from pool_protocol.solvency import Statement, open_solvency, verify_counted
from pool_protocol.transparency import TreeHead, in_order, open_tree_head
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import log_service_pb2 as pb

T = TypeVar("T")
LogCall = Callable[[str, Message], Any]
"""Makes a call of LogService by name; raises ChargepoolError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A statement of solvency, and what of it is the caller's own."""

    statement: Statement
    accounts: tuple[tuple[str, int], ...]
    """Names and balances (micro-units) that the statement provably counts."""


class LogMemory:
    """What this machine remembers of one pool's log."""

    def __init__(self, directory: Path, pool_id: str) -> None:
        """Use a folder; it is made when something is first written."""
        self._folder = directory / "logs" / sha256_hex(pool_id.encode())[:16]
        self._pool_id = pool_id

    def root(self) -> tuple[TrustedRoot, int] | None:
        """Return the root that was trusted last, and since when (microseconds); None when none was."""
        content = self._read()
        try:
            # It was verified when it was written; whether it has expired is asked when new ones come.
            return open_first_root(_bytes(content["root"]), now_us=0), int(content["since_us"])
        except (KeyError, ValueError, TypeError, PoolError):
            return None

    def head(self) -> bytes:
        """Return the serialized envelope of the head that was trusted last; empty when none was."""
        try:
            return _bytes(self._read()["head"])
        except (KeyError, ValueError, TypeError):
            return b""

    def remember(self, root: TrustedRoot, head: TreeHead | None, *, now_us: int) -> None:
        """Keep what is trusted now; best effort."""
        before = self._read()
        content = {
            "pool_id": self._pool_id,
            "since_us": before.get("since_us", now_us),
            "root": _text(root.root_bytes),
            "head": before.get("head", "") if head is None else _text(head.envelope),
        }
        write_privately(self._folder / "memory.json", json.dumps(content).encode())

    def keep_conflict(self, conflict: log_follow.LogConflictError, root: TrustedRoot) -> Path:
        """Keep the proof that the pool's log contradicts itself; return where."""
        content = {
            "pool_id": self._pool_id,
            "code": conflict.code.value,
            "detail": conflict.detail,
            "root": _text(root.root_bytes),
            "trusted_head": _text(conflict.trusted),
            "offered_head": _text(conflict.offered),
        }
        written = json.dumps(content, indent=1).encode()
        path = self._folder / f"conflict-{sha256_hex(written)[:16]}.json"
        write_privately(path, written)
        return path

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads((self._folder / "memory.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) and content.get("pool_id") == self._pool_id else {}


class PoolLog:
    """One pool's log, asked over a session."""

    def __init__(self, call: LogCall, *, trust: RootTrust, clock: Clock, directory: Path) -> None:
        """Ask by `call`, believe by `trust`, remember under `directory`."""
        self._call = call
        self._trust = trust
        self._clock = clock
        self._directory = directory

    @property
    def memory(self) -> LogMemory:
        """What this machine remembers."""
        return LogMemory(self._directory, self._trust.pool_id)

    @property
    def root(self) -> TrustedRoot:
        """The pool's root document, as far as it was followed."""
        return self._trust.root

    @property
    def fingerprint(self) -> str:
        """The root document's SHA-256: what people compare."""
        return self._trust.root.fingerprint

    def roots(self) -> Sequence[bytes]:
        """Return all of the pool's serialized roots, oldest first: what leads from any to the newest."""
        return self._trust.chain()

    def follow(self) -> TreeHead | None:
        """Return the newest tree head after checking that it continues the one this machine trusted last.

        None where the pool has signed none yet, or has no log at all.

        Raises:
            ProofInvalid: The log was rewritten (LOG_FORKED, LOG_ROLLED_BACK, LOG_BACK_DATED), or the head is
                not the pool's. The proof is kept; `context["evidence"]` says where.
        """
        memory = self.memory
        kept = memory.head()
        try:
            followed = self._with_keys(lambda root: self._follow(root, kept))
        except PoolError as error:
            if error.code is ErrorCode.UNIMPLEMENTED and not kept:
                return None
            raise self._told(error) from error
        head = None if followed is None else followed.head
        memory.remember(self._trust.root, head, now_us=self._clock.now_us())
        return head

    def compare(self, other: common_pb2.Envelope) -> tuple[TreeHead, TreeHead]:
        """Hold a head that someone else was shown against our own; return both, the smaller first.

        Raises:
            ProofInvalid: The pool shows two logs, or the other head is not this pool's.
        """
        own = self.follow()
        if own is None:
            raise ProofInvalid("The pool has signed no tree head yet; there is nothing to compare with.")
        try:
            theirs = self._with_keys(lambda root: self._open(other, root))
            first, second = in_order(own, theirs)
            log_follow.run(log_follow.continue_from(first, second), self._ask)
        except PoolError as error:
            raise self._told(error) from error
        return first, second

    def prove(self, receipts: Sequence[bytes], head: TreeHead) -> list[KeptReceipt]:
        """Return serialized ProvenReceipts with their places under a head; without one where it has none.

        Raises:
            ProofInvalid: The log holds another receipt in place of one of them.
        """
        try:
            proofs = log_follow.run(log_follow.prove_places(receipts, head), self._ask)
        except PoolError as error:
            raise self._told(error) from error
        return [
            KeptReceipt(
                proven=proven,
                proof=b"" if proof is None else proof.SerializeToString(),
                tree_size=0 if proof is None else head.tree_size,
            )
            for proven, proof in zip(receipts, proofs, strict=True)
        ]

    def solvency(self, *, date: str = "", prove: bool = False) -> Counted | None:
        """Return the newest statement of solvency, or the last of a day; None where none was made.

        Args:
            date: A day, UTC, for example "2026-11-25".
            prove: Have it proved that your own balances are counted.

        Raises:
            ProofInvalid: It is not the pool's, does not add up, or does not count a balance of yours.
        """
        try:
            answer: pb.GetSolvencyResponse = self._ask("GetSolvency", pb.GetSolvencyRequest(date=date))
            if not answer.HasField("statement"):
                return None
            statement = self._with_keys(lambda root: self._open_statement(answer.statement, root))
            if not prove:
                return Counted(statement=statement, accounts=())
            request = pb.GetLiabilityProofsRequest(statement_id=statement.statement_id)
            proofs: pb.GetLiabilityProofsResponse = self._ask("GetLiabilityProofs", request)
            accounts = [(proof.account, verify_counted(proof, statement)) for proof in proofs.proofs]
        except PoolError as error:
            raise self._told(error) from error
        return Counted(statement=statement, accounts=tuple(accounts))

    # --- inside -------------------------------------------------------------------------------

    def _follow(self, root: TrustedRoot, kept: bytes) -> log_follow.Followed | None:
        trusted = self._open(common_pb2.Envelope.FromString(kept), root) if kept else None
        exchange = log_follow.follow_head(
            trusted,
            keys=root.keys_for(Role.RECEIPT),
            pool_id=root.document.pool_id,
            now_us=self._clock.now_us(),
        )
        return log_follow.run(exchange, self._ask)

    def _open(self, envelope: common_pb2.Envelope, root: TrustedRoot) -> TreeHead:
        return open_tree_head(
            envelope,
            keys=root.keys_for(Role.RECEIPT),
            now_us=self._clock.now_us(),
            pool_id=root.document.pool_id,
        )

    def _open_statement(self, envelope: common_pb2.Envelope, root: TrustedRoot) -> Statement:
        return open_solvency(
            envelope,
            keys=root.keys_for(Role.RECEIPT),
            now_us=self._clock.now_us(),
            pool_id=root.document.pool_id,
        )

    def _with_keys(self, use: Callable[[TrustedRoot], T]) -> T:
        """Use the trusted root; an unknown key makes us ask for newer roots once."""
        try:
            return use(self._trust.root)
        except PoolError as error:
            if error.code is not ErrorCode.KEY_UNKNOWN:
                raise
        return use(self._trust.refresh())

    def _ask(self, method: str, request: Message) -> Any:
        try:
            return self._call(method, request)
        except PoolUnreachable:
            raise
        except ChargepoolError as error:
            raise PoolError(error.code, error.detail, context=error.context) from error

    def _told(self, error: PoolError) -> ChargepoolError:
        if not isinstance(error, log_follow.LogConflictError):
            return from_pool_error(error)
        path = self.memory.keep_conflict(error, self._trust.root)
        return ProofInvalid(
            f"{error.public} ({error.detail})",
            code=error.code,
            next_step=f"The proof, both signed tree heads, is in {path}. Show it to others, and to the "
            "operator.",
            context={"evidence": str(path)},
        )


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
