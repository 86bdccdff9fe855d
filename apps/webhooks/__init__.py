"""Webhooks: what happened is told to addresses that a tenant names, signed, and again until they answer."""
