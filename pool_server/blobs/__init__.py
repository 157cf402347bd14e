"""Content-addressed bytes outside the database: a local folder."""
