"""The codex upstream: any service that speaks the OpenAI Responses API."""
