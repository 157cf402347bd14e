"""The token goes with every kind of call, on both kinds of channel, beside the caller's own metadata."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio
import pytest

from chargepool._channel import open_aio_channel, open_channel
from tests.integration.agent.rig import TestAuthority

TOKEN = "cp_buyer_of_this_test"
EXPECTED = [("authorization", f"Bearer {TOKEN}"), ("x-mine", "kept")]
MINE = (("x-mine", "kept"),)
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class Seen(grpc.GenericRpcHandler):
    """Answers every kind of call, and notes what metadata came with it."""

    def __init__(self) -> None:
        self.metadata: dict[str, list[tuple[str, str | bytes]]] = {}
        self._lock = threading.Lock()

    def service(self, handler_call_details: Any) -> Any:
        kind = handler_call_details.method.removeprefix("/test/")

        def note(context: Any) -> None:
            with self._lock:
                self.metadata[kind] = sorted(
                    (key, value)
                    for key, value in context.invocation_metadata()
                    if key in {"authorization", "x-mine"}
                )

        def one(request: Any, context: Any) -> bytes:
            note(context)
            return request if isinstance(request, bytes) else b"".join(request)

        def many(request: Any, context: Any) -> Iterator[bytes]:
            yield one(request, context)

        behaviour: Any = many if kind.endswith("stream") else one
        return getattr(grpc, f"{kind}_rpc_method_handler")(behaviour)


@pytest.fixture(scope="module")
def authority() -> TestAuthority:
    return TestAuthority()


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def address(authority: TestAuthority, seen: Seen) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(max_workers=2), handlers=[seen])
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([authority.server_pair()]))
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.mark.parametrize("kind", KINDS)
def test_a_synchronous_channel_shows_it(
    kind: str, address: str, seen: Seen, authority: TestAuthority
) -> None:
    with open_channel(address, ca_pem=authority.pem, token=TOKEN) as channel:
        request: Any = b"hello" if kind.startswith("unary") else iter([b"hel", b"lo"])
        answer: Any = getattr(channel, kind)(f"/test/{kind}")(request, metadata=MINE, timeout=20)
        assert (answer if kind.endswith("unary") else next(answer)) == b"hello"
    assert seen.metadata == {kind: EXPECTED}


@pytest.mark.parametrize("kind", KINDS)
async def test_an_asyncio_channel_shows_it(
    kind: str, address: str, seen: Seen, authority: TestAuthority
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"hel", b"lo"):
            yield piece

    async with open_aio_channel(address, ca_pem=authority.pem, token=TOKEN) as channel:
        request: Any = b"hello" if kind.startswith("unary") else pieces()
        call: Any = getattr(channel, kind)(f"/test/{kind}")(request, metadata=MINE, timeout=20)
        async with asyncio.timeout(20):
            answers = [await call] if kind.endswith("unary") else [piece async for piece in call]
    assert answers == [b"hello"]
    assert seen.metadata == {kind: EXPECTED}
