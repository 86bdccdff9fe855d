"""The local stack of `make up`: real servers from ordinary wheels, and a supervisor that leaves nothing behind."""
