"""Puts the papers' servicer together from the settings."""

from pool_protocol.limits import SECOND_US
from pool_server.config import ServerConfig
from pool_server.core.buyer_month import DocumentKind
from pool_server.core.issuer import Issuer, TaxRules
from pool_server.core.yearly import FormRule
from pool_server.main.wiring import PoolFacts
from pool_server.reports.printer import Printer
from pool_server.rpc.report_servicer import ReportServicer
from pool_server.rpc.store_access import StoreAccess


def issuer_of(config: ServerConfig, *, pool_id: str) -> Issuer:
    """Return who gives the papers out."""
    return Issuer(
        pool_id=pool_id,
        name=config.legal_name or pool_id,
        address_lines=config.legal_address,
        vat_id=config.legal_vat_id,
        terms=config.paper_terms,
        document=DocumentKind(config.buyer_document),
        vat_ppm=config.vat_ppm,
        fee_ppm=config.fee_ppm,
        dispute_window_us=config.dispute_window_s * SECOND_US,
    )


def tax_rules(config: ServerConfig) -> TaxRules:
    """Return how yearly totals are classified."""
    is_k = config.form_1099 == "1099-K"
    return TaxRules(
        dac7_activity=config.dac7_activity,
        form=FormRule(
            form=config.form_1099,
            threshold_units=config.form_1099k_threshold_units if is_k else config.form_1099_threshold_units,
            payments_over=config.form_1099k_payments_over if is_k else 0,
        ),
    )


def report_servicer(store: StoreAccess, *, config: ServerConfig, facts: PoolFacts) -> ReportServicer:
    """Make ReportService."""
    return ReportServicer(
        store=store,
        printer=Printer(issuer_of(config, pool_id=facts.pool_id)),
        document=DocumentKind(config.buyer_document),
        tax=tax_rules(config),
        currency=facts.currency,
    )
