"""`python -m smolpilot` is the command `smolpilot`."""

import sys

from smolpilot.cli.main import main

sys.exit(main())
