"""Logs, metrics and traces of both processes. Nothing here decides anything about a turn."""
