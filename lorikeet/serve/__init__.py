"""A released GGUF for others to use: an OpenAI-compatible API and a chat page, in one process."""
