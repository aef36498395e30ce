"""Reasoning replay: what a stateless client dropped of a model's reasoning goes into its next request."""
