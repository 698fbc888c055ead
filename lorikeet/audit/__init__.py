"""Every GGUF answers the suite as it will be served, is compared with its parent, and gets a verdict."""
