"""Talking to inference servers: the wire, the sockets, and the pool that chooses between them."""
