"""Who may come in, and what they may do: credentials, logins, scopes, and taking them back."""
