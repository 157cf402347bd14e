"""The names by which a bank knows a run, its blocks and its payments: made of the pool, the run and the row.

All of them are at most 35 characters of the SEPA set (ISO 20022's Max35Text), the same every time, and unlike
those of another pool that pays from the same account. `CP-7F3A21C0-12` is a message, `CP-7F3A21C0-12-B1-1000`
its block of rows 1 to 1000, `CP-7F3A21C0-12-17` the payment of its row 17.
"""

import hashlib
import re

from pool_protocol.errors import InvariantError

REFERENCE_CHARACTERS_MAX = 35
_MESSAGE = re.compile(r"CP-[0-9A-F]{8}-([1-9][0-9]{0,11})")
_BLOCK = re.compile(r"(CP-[0-9A-F]{8}-[1-9][0-9]{0,11})-B([1-9][0-9]{0,6})-([1-9][0-9]{0,6})")


def message_id(pool_id: str, payout_id: int) -> str:
    """Name a run to the bank."""
    tag = hashlib.sha256(pool_id.encode()).hexdigest()[:8].upper()
    return _short_enough(f"CP-{tag}-{payout_id}")


def block_id(message: str, first: int, last: int) -> str:
    """Name a message's block of the rows numbered `first` to `last`."""
    return _short_enough(f"{message}-B{first}-{last}")


def end_to_end_reference(pool_id: str, payout_id: int, number: int) -> str:
    """Name one payment: the reference that follows it through the banks."""
    return _short_enough(f"{message_id(pool_id, payout_id)}-{number}")


def row_number(reference: str) -> int:
    """Return the number of a row from its end-to-end reference."""
    return int(reference.rsplit("-", 1)[1])


def payout_id_of(message: str) -> int | None:
    """Return the run that a message's name stands for, or None when it is none of ours in form."""
    match = _MESSAGE.fullmatch(message)
    return None if match is None else int(match[1])


def block_rows(block: str) -> tuple[str, int, int] | None:
    """Return a block's message and the numbers of its first and last row; None for another name."""
    match = _BLOCK.fullmatch(block)
    return None if match is None else (match[1], int(match[2]), int(match[3]))


def _short_enough(name: str) -> str:
    if len(name) > REFERENCE_CHARACTERS_MAX:
        raise InvariantError(f"{name!r} is longer than {REFERENCE_CHARACTERS_MAX} characters")
    return name
