"""Sticky worker process next to the Lingma subprocess."""
