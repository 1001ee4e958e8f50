"""`python -m tte.mmeb`."""

import sys

from tte.mmeb.cli import main

if __name__ == "__main__":
    sys.exit(main())
