"""OpenAI Responses, spoken to clients."""
