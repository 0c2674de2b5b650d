"""`python -m tests.simulation --seeds 5000`."""

import sys

from .run import main

sys.exit(main())
