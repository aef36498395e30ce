"""Upstreams that speak Gemini's `generateContent`, plain or inside the Code Assist envelope."""
