"""Who the demo's administrator is: `make up` makes them, and production must never know them."""

from __future__ import annotations

ADMIN = "admin@parley.example"
