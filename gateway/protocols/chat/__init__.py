"""OpenAI Chat Completions, spoken to clients."""
