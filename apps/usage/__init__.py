"""The ledger: what each admitted turn cost, once."""
