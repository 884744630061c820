"""`python -m sam train | evaluate | sweep`."""

from __future__ import annotations

import signal
import sys

if __name__ == "__main__":
    try:
        from sam.commands import main
    except KeyboardInterrupt:
        print("python -m sam: interrupted before it began; nothing was written", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    status = main()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # all is saved: ends at once, without a traceback
    sys.exit(status)
