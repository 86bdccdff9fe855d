"""Real servers on real sockets that do as they are told."""
