"""Lorikeet: from a dataset to a small assistant on a plain CPU, with the evidence that it may be trusted.

data -> train -> evaluate -> export -> audit -> release -> serve, from one recipe. Start with `lorikeet --help`.
"""

__version__ = "0.1.0"
