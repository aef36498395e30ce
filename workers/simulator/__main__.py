"""`python -m workers.simulator`: the executable."""

import sys

from workers.simulator.cli import main

if __name__ == "__main__":
    sys.exit(main())
