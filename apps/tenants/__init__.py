"""Who is asking, and for whom: tenants, users, members, API keys and end users."""
