"""The base and what was trained into GGUF files, each held against the model that was trained."""
