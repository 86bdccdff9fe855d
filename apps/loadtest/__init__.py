"""Load from outside: simulated users of a running Parley, known by nothing but its public API."""
