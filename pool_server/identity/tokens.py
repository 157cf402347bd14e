"""Makes and reads API tokens and device codes. The pool keeps only their SHA-256.

A token is `cp_<role>_<52 characters of base32>`: 256 random bits, so that a plain hash is enough (nothing to
stretch, nothing to guess) and the role is visible to people and to secret scanners. What a token may do is
decided from the database, never from this text.
"""

import base64
import hashlib
import re
from dataclasses import dataclass

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.system import IdSource
from pool_server.ports.shell import Role

_TOKEN_BYTES = 32
_TOKEN = re.compile(r"cp_(owner|buyer|operator)_[a-z2-7]{52}")
_TOKEN_ID_BYTES = 10
_QUOTE_ID_BYTES = 16
_DEVICE_CODE_BYTES = 32
#: No vowels (no words), no letter that reads as another letter or digit.
USER_CODE_LETTERS = "BCDFGHJKMNPQRTVWXZ"
#: No 0, 1, 5, 8: they read as O, I, S, B.
USER_CODE_DIGITS = "234679"
_USER_CODE_HALF = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token just made: `text` is shown once and then forgotten."""

    token_id: str
    text: str
    token_sha256: bytes

    def __repr__(self) -> str:
        """Name the token without telling it."""
        return f"NewToken({self.token_id})"


def _base32(content: bytes) -> str:
    return base64.b32encode(content).decode("ascii").rstrip("=").lower()


def secret_sha256(text: str) -> bytes:
    """Return what the pool keeps of a token or a device code."""
    return hashlib.sha256(text.encode("utf-8")).digest()


def new_token(role: Role, ids: IdSource) -> NewToken:
    """Make a token for a role."""
    text = f"cp_{role.value}_{_base32(ids.random_bytes(_TOKEN_BYTES))}"
    return NewToken(
        token_id=f"token_{_base32(ids.random_bytes(_TOKEN_ID_BYTES))}",
        text=text,
        token_sha256=secret_sha256(text),
    )


def parse_bearer(authorization: str) -> bytes:
    """Return the hash of the token in an `authorization` header.

    Raises:
        PoolError: UNAUTHENTICATED when it is not `Bearer` and a well-formed token.
    """
    scheme, _, text = authorization.partition(" ")
    if scheme.lower() != "bearer" or _TOKEN.fullmatch(text) is None:
        raise PoolError(ErrorCode.UNAUTHENTICATED, "the authorization header holds no well-formed token")
    return secret_sha256(text)


def new_quote_id(ids: IdSource) -> str:
    """Make a quote's id: 128 random bits, since naming a quote is claiming its price."""
    return f"quote_{_base32(ids.random_bytes(_QUOTE_ID_BYTES))}"


def new_device_code(ids: IdSource) -> str:
    """Make the secret that a device polls with."""
    return f"cp_device_{_base32(ids.random_bytes(_DEVICE_CODE_BYTES))}"


def new_user_code(ids: IdSource) -> str:
    """Make a short code for people, for example "KXRT-4927": 18**4 * 6**4, about 27 bits."""
    letters = _draw(ids, USER_CODE_LETTERS)
    digits = _draw(ids, USER_CODE_DIGITS)
    return f"{letters}-{digits}"


def _draw(ids: IdSource, alphabet: str) -> str:
    drawn: list[str] = []
    # Bytes beyond the last whole multiple of the alphabet are thrown away, so that no letter is likelier.
    usable = 256 - 256 % len(alphabet)
    while len(drawn) < _USER_CODE_HALF:
        drawn += [alphabet[byte % len(alphabet)] for byte in ids.random_bytes(8) if byte < usable]
    return "".join(drawn[:_USER_CODE_HALF])


def normalize_user_code(text: str) -> str:
    """Return the code as the pool writes it, from what a person typed: spaces, dashes and case do not matter.

    Raises:
        PoolError: DEVICE_CODE_UNKNOWN when no code can look like that.
    """
    compact = re.sub(r"[\s-]", "", text[:40]).upper()
    letters, digits = compact[:_USER_CODE_HALF], compact[_USER_CODE_HALF:]
    if (
        len(compact) != 2 * _USER_CODE_HALF
        or not set(letters) <= set(USER_CODE_LETTERS)
        or not set(digits) <= set(USER_CODE_DIGITS)
    ):
        raise PoolError(
            ErrorCode.DEVICE_CODE_UNKNOWN, "not the form of a code", context={"field": "user_code"}
        )
    return f"{letters}-{digits}"
