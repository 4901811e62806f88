"""``python -m sftlib``: see `sftlib.command`."""

from __future__ import annotations

import sys

from sftlib.command import main

if __name__ == "__main__":
    sys.exit(main())
