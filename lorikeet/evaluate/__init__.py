"""Base against tuned model on held-out rows, before anything is exported."""
