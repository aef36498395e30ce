"""Lingma subprocesses: how they are started, spoken to, watched and chosen."""
