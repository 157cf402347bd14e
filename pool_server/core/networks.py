"""Which network a vehicle calls from, as far as its address tells: neighbours should not check each other.

Vehicles of one household, depot or attacker's rack tend to share a network whatever owners they name. An
address behind which a whole carrier hides says as much as one behind which a garage does, so sharing one only
makes a check wait for others, for a while. Addresses that are not of the public internet say nothing.
"""

import ipaddress
from typing import NamedTuple
from urllib.parse import unquote

#: Leading bits that make a network: what one site usually has.
IPV4_BITS = 24
IPV6_BITS = 48
UNKNOWN_NETWORK = ""


class NetworkGuest(NamedTuple):
    """A vehicle that asks for tasks, by its network."""

    network: str
    """Empty where unknown: then all tasks fit."""
    ended_after_us: int
    """Attempts of the same network that ended before do not keep it from a task."""


def network_of(peer: str) -> str:
    """Return the network of a gRPC peer, such as "ipv4:203.0.113.7:4711"; empty where it says nothing."""
    kind, _, rest = peer.partition(":")
    if kind not in {"ipv4", "ipv6"}:
        return UNKNOWN_NETWORK
    host = unquote(rest).rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return UNKNOWN_NETWORK
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if not address.is_global:
        return UNKNOWN_NETWORK
    bits = IPV4_BITS if address.version == 4 else IPV6_BITS
    return str(ipaddress.ip_network((address, bits), strict=False))
