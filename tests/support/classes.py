"""Probes for tests: machines that differ in chosen families."""

from collections.abc import Mapping

from pool_protocol.digests import sha256
from pool_protocol.numeric import PROBE_VERSION, PROFILE, Family, Probe


def probe(kind: str = "a", *, jaxlib: str = "0.10.2", differs: Mapping[Family, str] | None = None) -> Probe:
    """The probe of a machine: digests follow from `kind`, of families in `differs` from what stands there."""
    own = differs or {}
    return Probe(
        probe_version=PROBE_VERSION,
        jaxlib_version=jaxlib,
        platform="cpu",
        profile=PROFILE,
        families={family.value: sha256(f"{own.get(family, kind)}/{family}".encode()) for family in Family},
    )
