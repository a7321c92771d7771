"""``python -m drivetrain``."""

import sys

from drivetrain.main import main

if __name__ == "__main__":
    sys.exit(main())
