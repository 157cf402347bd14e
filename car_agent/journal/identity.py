"""The vehicle's identity on disk: keys made here, the certificate, the pool's root.

Private keys never leave the directory. `identity.json` is written last at pairing: without it the vehicle is
not paired, whatever else lies around. No name in here tells the VIN, the host or the owner.
"""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from car_agent.journal.durable import remove_durably, write_durably
from car_agent.journal.state_directory import StateDirectory
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.keys import SigningKey
from pool_protocol.roots import TrustedRoot, open_first_root
from pool_protocol.system import IdSource

_PUBLIC_MODE: Final = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who this vehicle is in which pool."""

    vehicle_id: str
    owner_id: str
    pool_id: str
    fleet_address: str
    """host:port of the mutual-TLS listener."""
    api_address: str
    """host:port where pairing was done."""
    tls_key_pem: bytes
    certificate_pem: bytes
    ca_pem: bytes
    envelope_key: SigningKey
    root: TrustedRoot


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingKeys:
    """Fresh keys of a vehicle that is being paired."""

    tls_key_pem: bytes
    csr_pem: bytes
    envelope_key: SigningKey


def new_pairing_keys(source: IdSource) -> PairingKeys:
    """Make both keys and the certificate signing request."""
    key = ec.generate_private_key(ec.SECP256R1())
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return PairingKeys(
        tls_key_pem=key_pem, csr_pem=signing_request(key_pem), envelope_key=SigningKey.generate(source)
    )


def signing_request(tls_key_pem: bytes) -> bytes:
    """Return a PEM signing request for a key, without any name: the pool writes its own.

    Raises:
        PoolError: KEY_INVALID when the key cannot be used.
    """
    try:
        key = serialization.load_pem_private_key(tls_key_pem, password=None)
    except (ValueError, TypeError) as error:
        raise PoolError(ErrorCode.KEY_INVALID, f"the TLS key cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PoolError(ErrorCode.KEY_INVALID, "the TLS key is not an ECDSA key")
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def certificate_span_us(certificate_pem: bytes) -> tuple[int, int]:
    """Return from when until when a certificate is valid, microseconds since the epoch.

    Raises:
        PoolError: CERTIFICATE_INVALID when it cannot be read.
    """
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
    except ValueError as error:
        raise PoolError(ErrorCode.CERTIFICATE_INVALID, f"the certificate cannot be read: {error}") from error
    since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return int(since.timestamp() * 1_000_000), int(until.timestamp() * 1_000_000)


def save_identity(directory: StateDirectory, identity: Identity) -> None:
    """Write a whole identity; `identity.json` last, which makes it count.

    Raises:
        OSError: when the disk refuses.
    """
    remove_durably(directory.identity)
    write_durably(directory.tls_key, identity.tls_key_pem)
    directory.envelope_key.unlink(missing_ok=True)
    identity.envelope_key.save(directory.envelope_key)
    write_durably(directory.certificate, identity.certificate_pem)
    write_durably(directory.ca, identity.ca_pem, mode=_PUBLIC_MODE)
    write_durably(directory.root, identity.root.root_bytes)
    content = {
        "vehicle_id": identity.vehicle_id,
        "owner_id": identity.owner_id,
        "pool_id": identity.pool_id,
        "fleet_address": identity.fleet_address,
        "api_address": identity.api_address,
    }
    write_durably(directory.identity, json.dumps(content, indent=1).encode() + b"\n")


def forget_identity(directory: StateDirectory) -> None:
    """Unpair: remove keys and certificate, `identity.json` first."""
    for path in (directory.identity, directory.tls_key, directory.envelope_key, directory.certificate):
        with contextlib.suppress(FileNotFoundError):
            remove_durably(path)


def load_identity(directory: StateDirectory) -> Identity | None:
    """Return the identity, or None when the vehicle is not paired.

    The root on disk was verified when it was written and only its owner can write it, so its own signatures
    are checked again but not its expiry: an expired root can still verify its successor.

    Raises:
        PoolError: KEY_INVALID, ROOT_INVALID or CERTIFICATE_INVALID when a part is missing or damaged.
    """
    try:
        content = json.loads(directory.identity.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise PoolError(ErrorCode.KEY_INVALID, f"cannot read {directory.identity}: {error}") from error
    texts = _texts(content)
    root_bytes = _part(directory.root, ErrorCode.ROOT_INVALID)
    return Identity(
        vehicle_id=texts["vehicle_id"],
        owner_id=texts["owner_id"],
        pool_id=texts["pool_id"],
        fleet_address=texts["fleet_address"],
        api_address=texts["api_address"],
        tls_key_pem=_part(directory.tls_key, ErrorCode.KEY_INVALID),
        certificate_pem=_part(directory.certificate, ErrorCode.CERTIFICATE_INVALID),
        ca_pem=_part(directory.ca, ErrorCode.CERTIFICATE_INVALID),
        envelope_key=SigningKey.load(directory.envelope_key),
        root=_stored_root(root_bytes),
    )


def _stored_root(root_bytes: bytes) -> TrustedRoot:
    # A moment at which no root has expired yet: expiry is judged when the root is used.
    return open_first_root(root_bytes, now_us=0)


def _texts(content: Any) -> Mapping[str, str]:
    names = ("vehicle_id", "owner_id", "pool_id", "fleet_address", "api_address")
    if not isinstance(content, dict) or not all(isinstance(content.get(name), str) for name in names):
        raise PoolError(ErrorCode.KEY_INVALID, "identity.json does not hold an identity; pair again")
    return content


def _part(path: Path, code: ErrorCode) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PoolError(code, f"cannot read {path}: {error.strerror}; pair again") from error
