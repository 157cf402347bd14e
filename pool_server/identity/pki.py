"""The pool's certificate authority and the certificates it makes. ECDSA P-256 throughout.

gRPC's TLS refuses Ed25519 certificates, so TLS keys are P-256 while envelopes are signed with Ed25519
(`pool_protocol.keys`). A vehicle's certificate names it by one URI, `spiffe://<pool-id>/vehicle/<vehicle-id>`;
the subject says nothing, and nothing in a signing request but its public key is copied.

Whether a vehicle may call is not decided here: the database knows retired vehicles and revoked serials.
"""

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pool_protocol import limits
from pool_protocol.errors import ErrorCode, PoolError
from pool_server.ports.shell import IssuedCertificate

#: The CA outlives every car's first years; replacing it means pairing again.
CA_LIFETIME_US = 20 * 365 * limits.DAY_US
#: A server makes itself a key and a certificate at every start and keeps neither on disk; it must be
#: restarted within this. Clients trust the CA, so nobody notices a new one.
SERVER_LIFETIME_US = 398 * limits.DAY_US
#: Certificates start a little in the past: a car's clock may lag.
_BACKDATE_US = 10 * limits.MINUTE_US
_CSR_BYTES_MAX = 8 * limits.KIB
_SPIFFE_SCHEME = "spiffe://"
_UTC = dt.UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """A certificate and its private key, both PEM."""

    certificate_pem: bytes
    private_key_pem: bytes

    def __repr__(self) -> str:
        """Show that it exists, not what it is."""
        return "KeyPair(...)"


def _datetime(time_us: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(time_us // limits.SECOND_US, tz=_UTC)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _key_usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )


def make_authority(*, pool_id: str, now_us: int) -> KeyPair:
    """Make the pool's self-signed CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{pool_id} CA"[:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_datetime(now_us - _BACKDATE_US))
        .not_valid_after(_datetime(now_us + CA_LIFETIME_US))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(is_ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return KeyPair(
        certificate_pem=certificate.public_bytes(serialization.Encoding.PEM), private_key_pem=_key_pem(key)
    )


def vehicle_uri(*, pool_id: str, vehicle_id: str) -> str:
    """Return the URI that names a vehicle in its certificate."""
    return f"{_SPIFFE_SCHEME}{pool_id}/vehicle/{vehicle_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerCertificate:
    """What a verified client certificate says."""

    vehicle_id: str
    serial_hex: str


def read_peer_certificate(certificate_pem: bytes, *, pool_id: str) -> PeerCertificate:
    """Return who a client certificate names. TLS has checked its chain and its dates before.

    Raises:
        PoolError: CERTIFICATE_INVALID when it does not name exactly one vehicle of this pool.
    """
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, x509.ExtensionNotFound) as error:
        raise PoolError(ErrorCode.CERTIFICATE_INVALID, f"unreadable client certificate: {error}") from error
    prefix = vehicle_uri(pool_id=pool_id, vehicle_id="")
    if len(uris) != 1 or len(names) != 1 or not uris[0].startswith(prefix):
        raise PoolError(ErrorCode.CERTIFICATE_INVALID, "the certificate names no vehicle of this pool")
    return PeerCertificate(
        vehicle_id=uris[0].removeprefix(prefix), serial_hex=f"{certificate.serial_number:x}"
    )


def check_vehicle_request(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    """Return the key of a signing request after checking it.

    Raises:
        PoolError: INVALID_ARGUMENT when it is too long, unreadable, not for ECDSA P-256, or not signed by
            its own key.
    """
    if len(csr_pem) > _CSR_BYTES_MAX:
        raise _bad_request(f"{len(csr_pem)} bytes, allowed are {_CSR_BYTES_MAX}")
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        key = request.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise _bad_request("the key is not ECDSA P-256")
        if not request.is_signature_valid:
            raise _bad_request("it is not signed by its own key")
    except (ValueError, TypeError, InvalidSignature) as error:
        raise _bad_request(f"unreadable: {error}") from error
    return key


def _bad_request(why: str) -> PoolError:
    return PoolError(
        ErrorCode.INVALID_ARGUMENT, f"certificate signing request: {why}", context={"field": "csr_pem"}
    )


class Authority:
    """The loaded CA: makes server and vehicle certificates. Implements `ports.shell.CertificateIssuer`."""

    def __init__(self, key_pair: KeyPair, *, pool_id: str) -> None:
        """Load the CA.

        Raises:
            PoolError: KEY_INVALID when the key is not the CA's or not ECDSA P-256.
        """
        self._pool_id = pool_id
        self._certificate = x509.load_pem_x509_certificate(key_pair.certificate_pem)
        key = serialization.load_pem_private_key(key_pair.private_key_pem, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise PoolError(ErrorCode.KEY_INVALID, "the CA's key is not ECDSA")
        if key.public_key() != self._certificate.public_key():
            raise PoolError(ErrorCode.KEY_INVALID, "the CA's key does not belong to its certificate")
        self._key = key

    def check_request(self, csr_pem: bytes) -> None:
        """Refuse a signing request that `issue_vehicle` would refuse."""
        check_vehicle_request(csr_pem)

    def issue_vehicle(self, csr_pem: bytes, *, vehicle_id: str, now_us: int) -> IssuedCertificate:
        """Certify the key of a signing request for a vehicle."""
        key = check_vehicle_request(csr_pem)
        expires_at_us = now_us + limits.VEHICLE_CERTIFICATE_LIFETIME_US
        uri = x509.UniformResourceIdentifier(vehicle_uri(pool_id=self._pool_id, vehicle_id=vehicle_id))
        certificate = self._sign(
            key,
            names=[uri],
            usage=ExtendedKeyUsageOID.CLIENT_AUTH,
            now_us=now_us,
            expires_at_us=expires_at_us,
        )
        return IssuedCertificate(
            certificate_pem=certificate.public_bytes(serialization.Encoding.PEM),
            serial_hex=f"{certificate.serial_number:x}",
            expires_at_us=expires_at_us,
        )

    def issue_server(self, hosts: Sequence[str], *, now_us: int) -> KeyPair:
        """Make a key and a certificate for a server under these DNS names and IP addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(
            key.public_key(),
            names=[_host_name(host) for host in hosts],
            usage=ExtendedKeyUsageOID.SERVER_AUTH,
            now_us=now_us,
            expires_at_us=now_us + SERVER_LIFETIME_US,
        )
        return KeyPair(
            certificate_pem=certificate.public_bytes(serialization.Encoding.PEM),
            private_key_pem=_key_pem(key),
        )

    def _sign(
        self,
        key: ec.EllipticCurvePublicKey,
        *,
        names: Sequence[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        now_us: int,
        expires_at_us: int,
    ) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            # An empty subject makes the alternative name the only one; RFC 5280 then wants it critical.
            .subject_name(x509.Name([]))
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(_datetime(now_us - _BACKDATE_US))
            .not_valid_after(_datetime(expires_at_us))
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(is_ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
