"""Base and adapter into GGUF files, each held against the model that was trained."""
