"""Everything Ray: connect, tune, map tasks."""
