"""What operators and probes use: health, metrics, dashboard, and commands that span apps."""
