"""What the protocols of OpenAI have in common: errors, content parts, tools."""
