"""Documents, from their bytes to searchable passages."""
