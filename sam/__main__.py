"""`python -m sam train | evaluate | sweep`."""

from __future__ import annotations

import sys

from sam.commands import main

if __name__ == "__main__":
    sys.exit(main())
