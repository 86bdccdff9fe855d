"""The inference endpoints that operators register, and the process-wide pool made of them."""
