"""The OAuth2 server: programs of others act for a tenant, or for one of its members, with tokens."""
