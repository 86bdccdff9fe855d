"""Reproducible measurements of the product against a mock model server: `make bench`."""
