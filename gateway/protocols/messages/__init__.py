"""Anthropic Messages, spoken to clients."""
