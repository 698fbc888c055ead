"""`python -m lorikeet` is the command line."""

import sys

from lorikeet.cli import main

sys.exit(main())
