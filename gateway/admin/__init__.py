"""What operators and probes see: health, statistics, metrics, raw models."""
