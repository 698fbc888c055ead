"""Rows into checked conversations, a split that cannot leak, and tokens with the mask that says which get loss."""
