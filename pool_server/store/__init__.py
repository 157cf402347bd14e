"""Durable state: engine, tables, repositories, group commit, migrations. Only this package knows SQL."""
