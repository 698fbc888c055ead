"""The way out of the door: what a run may publish, under which licence, with a card that says what was measured and nothing else."""
