"""The same recipe on a Ray cluster: steps as its tasks, training through Ray Train. Ray schedules; nothing here does.

All nodes need this package in the same version, and have to see the run folder, the recipe's files and the base's under the same paths.
"""
