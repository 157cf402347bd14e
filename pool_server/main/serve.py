"""One running server: everything opened in order, served, drained and closed in reverse.

Fails closed: a broken invariant, or a sweep that dies, ends the process with an error; whatever was
acknowledged is on disk, and the next start goes on from there.
"""

import asyncio
import contextlib
import json
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pool_protocol.clock import Clock
from pool_protocol.errors import InvariantError
from pool_protocol.limits import SECOND_US
from pool_protocol.system import IdSource
from pool_server.admission.queue import AdmissionQueue, Vet
from pool_server.blobs.local import LocalBlobStore
from pool_server.config import ServerConfig
from pool_server.identity.directory import DirectoryLock, PoolDirectory, make_folder, write_file
from pool_server.identity.pki import Authority
from pool_server.identity.signing import PoolKeys, PoolSigner
from pool_server.main.disputes import PoolReferee, run_disputes
from pool_server.main.log_sweeps import log_sweeps
from pool_server.main.loops import run_sweeps
from pool_server.main.papers import report_servicer
from pool_server.main.parts import ServerParts
from pool_server.main.sweeps import sweeps
from pool_server.main.wiring import (
    PoolFacts,
    Store,
    load_authority,
    load_keys,
    open_store,
    payout_rails,
    read_facts,
    server_hosts,
    work_policy,
)
from pool_server.referee.bench import RefereeBench
from pool_server.rpc.authentication import Authenticator
from pool_server.rpc.hub import Hub
from pool_server.rpc.interceptor import EdgeInterceptor
from pool_server.rpc.particulars_servicer import ParticularsServicer
from pool_server.rpc.policy import Listener
from pool_server.rpc.server import Listeners, Servicers
from pool_server.rpc.store_access import StoreAccess

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where a server listens."""

    api: str
    fleet: str


class PoolServer:
    """A server over one data directory. `start`, then `wait`, then `stop`, all in one event loop."""

    def __init__(
        self,
        data: "Path",
        *,
        config: ServerConfig,
        clock: Clock,
        id_source: IdSource,
        vet: Vet,
        referee: PoolReferee | None = None,
    ) -> None:
        """Open database, keys and blobs; nothing listens yet.

        Args:
            data: A directory that `initialize_pool` made.
            config: Settings.
            clock: Wall and monotonic time.
            id_source: Randomness.
            vet: Vets programs; blocking.
            referee: Runs disputed units and tasks again; by default the pool's own referee.

        Raises:
            PoolError: NOT_FOUND without a pool; INVALID_STATE while another server runs on it; KEY_INVALID
                when a key is missing or open to others.
        """
        self._directory = PoolDirectory(data)
        self._config = config
        self._clock = clock
        self._ids = id_source
        self._referee = referee
        self._bench, self._quick_bench = RefereeBench(), RefereeBench()
        self._directory.require_made(embedded=not config.database_url)
        self._lock = DirectoryLock(self._directory)
        try:
            self._facts: PoolFacts = read_facts(self._directory, config)
            self._rails = payout_rails(config, pool_id=self._facts.pool_id, currency=self._facts.currency)
            self._keys: PoolKeys = load_keys(self._directory, self._facts)
            self._authority: Authority = load_authority(self._directory, pool_id=self._facts.pool_id)
            self._signer = PoolSigner(
                pool_id=self._facts.pool_id, keys=self._keys, id_source=id_source, clock=clock
            )
            self._hub = Hub(streams_max=config.streams_max)
            self._admission = AdmissionQueue(vet, waiting_max=config.admission_queue_max)
            self._blob_store = LocalBlobStore(self._directory.blobs)
            self._store: Store = open_store(
                self._directory,
                config=config,
                pool_id=self._facts.pool_id,
                currency=self._facts.currency,
                signer=self._signer,
                on_committed=self._hub.dispatch_from_thread,
                on_fatal=self._on_fatal,
            )
        except BaseException:
            self._lock.release()
            raise
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failed: asyncio.Future[None] | None = None
        self._listeners: Listeners | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._disputing: asyncio.Task[None] | None = None

    async def start(self) -> Addresses:
        """Listen, sweep, and write `run/addresses.json`.

        Raises:
            PoolError: UNAVAILABLE when a port is taken.
        """
        loop = self._loop = asyncio.get_running_loop()
        self._failed = loop.create_future()
        self._hub.bind(loop)
        self._store.writer.start()
        store = StoreAccess(self._store.writer, self._clock)
        policy = work_policy(self._config)
        edges = {listener: self._edge(listener, store) for listener in Listener}
        parts = ServerParts(
            directory=self._directory,
            config=self._config,
            facts=self._facts,
            keys=self._keys,
            authority=self._authority,
            signer=self._signer,
            id_source=self._ids,
            store=store,
            blob_store=self._blob_store,
            admission=self._admission,
            bench=self._bench,
            quick_bench=self._quick_bench,
            hub=self._hub,
            policy=policy,
            rails=self._rails,
        )
        fleet = parts.fleet(edges[Listener.FLEET])
        servicers = Servicers(
            fleet=fleet,
            market=parts.market(),
            account=parts.account(),
            admin=parts.admin(),
            books=parts.books(),
            payouts=parts.payouts(),
            price=parts.price(),
            particulars=ParticularsServicer(store=store),
            reports=report_servicer(store, config=self._config, facts=self._facts),
            caps=parts.caps(),
            log=parts.log(),
        )
        server_key = self._authority.issue_server(server_hosts(self._config), now_us=self._clock.now_us())
        listeners = self._listeners = Listeners(
            servicers=servicers,
            api_edge=edges[Listener.API],
            fleet_edge=edges[Listener.FLEET],
            server_key=server_key,
            ca_pem=parts.ca_pem,
            hub=self._hub,
            with_reflection=self._config.reflection,
        )
        api_port, fleet_port = listeners.bind(
            host=self._config.host, api_port=self._config.api_port, fleet_port=self._config.fleet_port
        )
        addresses = Addresses(
            api=f"{self._reachable_host()}:{api_port}", fleet=f"{self._reachable_host()}:{fleet_port}"
        )
        fleet.fleet_address = addresses.fleet
        await listeners.start()
        self._sweeping = asyncio.create_task(
            run_sweeps(
                [
                    *sweeps(policy, self._blob_store),
                    *log_sweeps(
                        parts.log_signer, head_interval_us=round(self._config.log_head_interval_s * SECOND_US)
                    ),
                ],
                store=store,
                interval_s=self._config.sweep_interval_s,
            )
        )
        self._sweeping.add_done_callback(self._on_sweeping_ended)
        self._disputing = asyncio.create_task(
            run_disputes(
                self._referee or parts.unit_referee(),
                store=store,
                policy=policy,
                blobs=self._blob_store,
                draws=parts.chance(),
                wanted=self._hub.referee_wanted,
            )
        )
        self._disputing.add_done_callback(self._on_sweeping_ended)
        self._write_addresses(addresses)
        _log.info(
            "serving pool %s: api %s, fleet %s",
            self._facts.pool_id,
            addresses.api,
            addresses.fleet,
            extra={"action": "serving", "api": addresses.api, "fleet": addresses.fleet},
        )
        return addresses

    async def wait(self, stopping: asyncio.Event) -> None:
        """Wait until someone asks to stop.

        Raises:
            InvariantError: the store stopped, or a sweep died: the process must not go on.
        """
        if self._failed is None:
            raise InvariantError("wait comes after start")
        failed: asyncio.Future[object] = asyncio.ensure_future(asyncio.shield(self._failed))
        waiting: asyncio.Future[object] = asyncio.ensure_future(stopping.wait())
        await asyncio.wait({waiting, failed}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if failed.done():
            failed.result()
        failed.cancel()

    async def stop(self) -> None:
        """Drain, stop and close. Safe to call after a failed start."""
        with contextlib.suppress(FileNotFoundError):
            self._directory.addresses.unlink()
        for task in (self._sweeping, self._disputing):
            if task is not None:
                task.remove_done_callback(self._on_sweeping_ended)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if self._listeners is not None:
            await self._listeners.stop(grace_s=self._config.drain_grace_s)
        self._admission.close()
        await asyncio.to_thread(self._bench.close)
        await asyncio.to_thread(self._quick_bench.close)
        await asyncio.to_thread(self._store.close)
        self._lock.release()
        _log.info("stopped", extra={"action": "stopped"})

    def _edge(self, listener: Listener, store: StoreAccess) -> EdgeInterceptor:
        return EdgeInterceptor(
            authenticator=Authenticator(listener=listener, pool_id=self._facts.pool_id, store=store),
            id_source=self._ids,
        )

    def _reachable_host(self) -> str:
        if self._config.public_host:
            return self._config.public_host[0]
        every_interface = {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound
        return "localhost" if self._config.host in every_interface else self._config.host

    def _write_addresses(self, addresses: Addresses) -> None:
        content = {
            "api": addresses.api,
            "fleet": addresses.fleet,
            "pid": os.getpid(),
            "pool_id": self._facts.pool_id,
        }
        make_folder(self._directory.run)
        write_file(self._directory.addresses, json.dumps(content).encode("ascii") + b"\n", secret=False)

    def _on_fatal(self, error: InvariantError) -> None:
        """Take the writer's last word, on its thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._fail, error)

    def _on_sweeping_ended(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        self._fail(error or InvariantError("the sweeps ended"))

    def _fail(self, error: BaseException) -> None:
        _log.critical("the server stops: %s", error, extra={"action": "failed_closed"})
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)
