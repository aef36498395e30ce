"""Stateless gateway replica."""
