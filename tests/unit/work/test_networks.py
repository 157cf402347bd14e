"""Which network an address belongs to, and when it says nothing."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_server.core.networks import network_of


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("ipv4:198.41.0.4:4711", "198.41.0.0/24"),
        ("ipv4:198.41.0.255:1", "198.41.0.0/24"),
        ("ipv4:198.41.1.4:4711", "198.41.1.0/24"),
        ("ipv6:%5B2606:4700:10:20::1%5D:4711", "2606:4700:10::/48"),
        ("ipv6:[2606:4700:10:ffff::7]:1", "2606:4700:10::/48"),
        ("ipv6:%5B::ffff:198.41.0.4%5D:4711", "198.41.0.0/24"),
        # Nothing of the public internet.
        ("ipv4:127.0.0.1:5", ""),
        ("ipv4:10.1.2.3:5", ""),
        ("ipv4:192.168.0.9:5", ""),
        ("ipv4:100.64.0.1:5", ""),
        ("ipv6:%5B::1%5D:5", ""),
        ("ipv6:%5Bfe80::1%25eth0%5D:5", ""),
        ("ipv6:[fd00::1]:5", ""),
        # Nothing at all.
        ("unix:/run/pool.sock", ""),
        ("unix:", ""),
        ("ipv4:300.1.1.1:5", ""),
        ("ipv4:", ""),
        ("", ""),
    ],
)
def test_an_address_names_its_network_or_nothing(peer: str, network: str) -> None:
    assert network_of(peer) == network


@given(st.text(max_size=60))
def test_no_text_is_too_strange(text: str) -> None:
    assert isinstance(network_of(text), str)
    assert isinstance(network_of("ipv6:" + text), str)


@given(st.ip_addresses(v=4), st.integers(0, 255), st.integers(1, 65_535))
def test_the_last_number_and_the_port_do_not_matter(
    address: ipaddress.IPv4Address, last: int, port: int
) -> None:
    neighbour = ipaddress.IPv4Address(int(address) // 256 * 256 + last)
    if address.is_global == neighbour.is_global:
        assert network_of(f"ipv4:{address}:{port}") == network_of(f"ipv4:{neighbour}:1")
