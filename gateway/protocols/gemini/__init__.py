"""Google's Gemini API (generateContent), spoken to clients."""
