"""Reports as files: views over values of the core, the same bytes for the same values."""
