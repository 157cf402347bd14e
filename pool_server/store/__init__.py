"""Durable state on SQL: tables, engine, repositories, group commit, migrations. The only package that knows SQL."""
