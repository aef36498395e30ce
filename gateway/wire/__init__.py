"""Shapes and framing of the wire formats, shared by both sides of the gateway. No decisions are made here."""
