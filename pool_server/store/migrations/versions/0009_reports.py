"""Owners' and buyers' particulars for statements, invoices and yearly totals; documents issued to buyers."""

import sqlalchemy as sa
from alembic import op

from pool_server.store.triggers import append_only

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "account_particulars",
        sa.Column("principal_id", sa.String(), nullable=False),
        sa.Column("locale", sa.String(), nullable=False),
        sa.Column("display_name", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("country", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("tax_id", sa.String(), nullable=False),
        sa.Column("birth_date", sa.String(), nullable=False),
        sa.Column("vat_id", sa.String(), nullable=False),
        sa.Column("vat_scheme", sa.String(), nullable=False),
        sa.Column("set_by", sa.String(), nullable=False),
        sa.Column("set_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("kind IN ('', 'person', 'company')", name="particulars_kind_known"),
        sa.CheckConstraint(
            "vat_scheme IN ('', 'standard', 'reverse_charge', 'exempt')", name="particulars_vat_scheme_known"
        ),
        sa.CheckConstraint("kind <> 'company' OR birth_date = ''", name="particulars_company_not_born"),
        sa.PrimaryKeyConstraint("principal_id"),
    )
    op.create_table(
        "buyer_documents",
        sa.Column(
            "document_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("buyer_id", sa.String(), nullable=False),
        sa.Column("month", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("number", sa.String(), nullable=False),
        sa.Column("total_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("pdf", sa.LargeBinary(), nullable=False),
        sa.Column("pdf_sha256", sa.String(), nullable=False),
        sa.Column("csv", sa.LargeBinary(), nullable=False),
        sa.Column("csv_sha256", sa.String(), nullable=False),
        sa.Column("issued_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("document_id > 0", name="buyer_document_id_positive"),
        sa.CheckConstraint("kind IN ('invoice', 'usage_statement')", name="buyer_document_kind_known"),
        sa.CheckConstraint(
            "length(pdf_sha256) = 64 AND length(csv_sha256) = 64", name="buyer_document_hash_size"
        ),
        sa.PrimaryKeyConstraint("document_id"),
    )
    op.create_index("buyer_document_month", "buyer_documents", ["buyer_id", "month"], unique=True)
    op.create_index("buyer_document_number", "buyer_documents", ["number"], unique=True)
    for statement in append_only(op.get_context().dialect.name, "buyer_documents"):
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("the books are not taken back to an older schema; restore a backup instead")
