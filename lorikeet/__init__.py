"""Lorikeet: from a dataset to a small assistant on a plain CPU, with the evidence that it may be trusted.

data -> train -> evaluate -> export -> audit -> release -> serve, from one recipe. Start with `lorikeet --help`.
"""

import os

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # TRL reports the start of every training run; both are read when their library is imported
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

__version__ = "0.1.0"
