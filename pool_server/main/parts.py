"""Puts the servicers together from the parts of one server."""

from dataclasses import dataclass, field
from importlib import metadata

from pool_protocol.system import IdSource
from pool_server.admission.queue import AdmissionQueue
from pool_server.app.work_policy import WorkPolicy
from pool_server.config import ServerConfig
from pool_server.identity.directory import PoolDirectory
from pool_server.identity.log_signing import ReceiptLogSigner
from pool_server.identity.pki import Authority
from pool_server.identity.signing import PoolKeys, PoolSigner, SecretDraws
from pool_server.main.wiring import PoolFacts
from pool_server.ports.shell import BlobStore
from pool_server.rails.bank_directory import SchwiftyDirectory
from pool_server.rails.bank_reports import BankReports
from pool_server.rails.choice import Rails
from pool_server.referee.bench import RefereeBench
from pool_server.referee.lanes import RefereeLanes
from pool_server.referee.units import RefereeUnits
from pool_server.reports import journals, pool_csv
from pool_server.rpc.account_servicer import AccountServicer
from pool_server.rpc.admin_servicer import AdminServicer
from pool_server.rpc.appeal_desk import AppealDesk
from pool_server.rpc.blob_transfer import BlobTransfer
from pool_server.rpc.books_servicer import BooksServicer
from pool_server.rpc.caps_servicer import CapsServicer
from pool_server.rpc.certificate_desk import CertificateDesk
from pool_server.rpc.dispute_desk import DisputeDesk
from pool_server.rpc.enrolment_desk import EnrolmentDesk
from pool_server.rpc.exchange import ExchangeStreams
from pool_server.rpc.fleet_servicer import FleetServicer
from pool_server.rpc.hub import Hub
from pool_server.rpc.interceptor import EdgeInterceptor
from pool_server.rpc.job_watch import JobWatch
from pool_server.rpc.key_desk import KeyDesk
from pool_server.rpc.log_servicer import LogServicer
from pool_server.rpc.market_servicer import MarketServicer
from pool_server.rpc.owner_figures import OwnerFigures
from pool_server.rpc.payout_servicer import PayoutServicer
from pool_server.rpc.price_servicer import PriceServicer
from pool_server.rpc.program_desk import ProgramDesk
from pool_server.rpc.store_access import StoreAccess
from pool_server.rpc.work_desk import WorkDesk


@dataclass(slots=True, kw_only=True)
class ServerParts:
    """What servicers are made of; the desks that several of them share are made once."""

    directory: PoolDirectory
    config: ServerConfig
    facts: PoolFacts
    keys: PoolKeys
    authority: Authority
    signer: PoolSigner
    id_source: IdSource
    store: StoreAccess
    blob_store: BlobStore
    admission: AdmissionQueue
    bench: RefereeBench
    quick_bench: RefereeBench
    hub: Hub
    policy: WorkPolicy
    rails: Rails
    ca_pem: bytes = field(init=False)
    log_signer: ReceiptLogSigner = field(init=False)
    _enrolment: EnrolmentDesk = field(init=False)
    _blobs: BlobTransfer = field(init=False)
    _programs: ProgramDesk = field(init=False)

    def __post_init__(self) -> None:
        """Make the shared desks."""
        self.ca_pem = self.directory.ca_certificate.read_bytes()
        self.log_signer = ReceiptLogSigner(
            pool_id=self.facts.pool_id, keys=self.keys, id_source=self.id_source
        )
        self._enrolment = EnrolmentDesk(store=self.store, issuer=self.authority, id_source=self.id_source)
        self._blobs = BlobTransfer(
            store=self.store,
            blob_store=self.blob_store,
            bytes_per_holder_max=self.config.upload_bytes_per_holder_max,
        )
        self._programs = ProgramDesk(
            store=self.store, blob_store=self.blob_store, queue=self.admission, signer=self.signer
        )

    def chance(self) -> SecretDraws:
        """Make the secret chance of audits, leases, nonces and unit checks."""
        return SecretDraws(self.directory.audit_secret.read_bytes())

    def unit_referee(self) -> RefereeUnits:
        """Make who runs disputed units again."""
        return RefereeUnits(self.bench, programs=self._programs, blobs=self.blob_store)

    def fleet(self, edge: EdgeInterceptor) -> FleetServicer:
        """Make FleetService; `edge` words the refusals inside exchange streams."""
        chance = self.chance()
        desk = WorkDesk(
            store=self.store,
            signer=self.signer,
            policy=self.policy,
            draws=chance,
            order=chance,
            blob_reader=self.blob_store,
            certificates=CertificateDesk(
                programs=self._programs,
                referee=RefereeLanes(quick=self.quick_bench, slow=self.bench),
                blob_reader=self.blob_store,
                draws=chance,
            ),
        )
        return FleetServicer(
            store=self.store,
            enrolment=self._enrolment,
            desk=desk,
            streams=ExchangeStreams(
                store=self.store,
                desk=desk,
                disputes=DisputeDesk(store=self.store, policy=self.policy, blob_reader=self.blob_store),
                hub=self.hub,
                edge=edge,
            ),
            programs=self._programs,
            blobs=self._blobs,
            figures=OwnerFigures(store=self.store),
            hub=self.hub,
            pool_id=self.facts.pool_id,
            ca_pem=self.ca_pem,
        )

    def market(self) -> MarketServicer:
        """Make MarketService."""
        return MarketServicer(
            store=self.store,
            programs=self._programs,
            blobs=self._blobs,
            watch=JobWatch(store=self.store, hub=self.hub),
            policy=self.policy,
            id_source=self.id_source,
            pool_id=self.facts.pool_id,
            currency=self.facts.currency,
        )

    def account(self) -> AccountServicer:
        """Make AccountService."""
        return AccountServicer(
            store=self.store,
            enrolment=self._enrolment,
            policy=self.policy,
            blob_reader=self.blob_store,
            hub=self.hub,
            appeals=AppealDesk(
                store=self.store,
                programs=self._programs,
                referee=self.bench,
                policy=self.policy,
                blob_reader=self.blob_store,
            ),
            banks=SchwiftyDirectory(),
        )

    def books(self) -> BooksServicer:
        """Make BooksService."""
        return BooksServicer(
            store=self.store, make_journal=journals.make_journal, currency=self.facts.currency
        )

    def payouts(self) -> PayoutServicer:
        """Make PayoutService."""
        return PayoutServicer(store=self.store, reports=BankReports(), currency=self.facts.currency)

    def price(self) -> PriceServicer:
        """Make PriceService."""
        return PriceServicer(store=self.store, policy=self.policy.market, currency=self.facts.currency)

    def caps(self) -> CapsServicer:
        """Make CapsService."""
        return CapsServicer(store=self.store, currency=self.facts.currency)

    def log(self) -> LogServicer:
        """Make LogService."""
        return LogServicer(store=self.store, signer=self.log_signer)

    def admin(self) -> AdminServicer:
        """Make AdminService."""
        return AdminServicer(
            store=self.store,
            keys=KeyDesk(
                store=self.store, keys=self.keys, directory=self.directory, id_source=self.id_source
            ),
            policy=self.policy,
            blob_reader=self.blob_store,
            rails=self.rails,
            render_report=pool_csv.render,
            id_source=self.id_source,
            pool_id=self.facts.pool_id,
            currency=self.facts.currency,
            server_version=server_version(),
        )


def server_version() -> str:
    """Return the version of this server; "unknown" when it is not installed."""
    try:
        return metadata.version("chargepool")
    except metadata.PackageNotFoundError:
        return "unknown"
