"""The engine: everything that needs no database, no framework and no clock of its own."""
