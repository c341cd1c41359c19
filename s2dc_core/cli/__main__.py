"""`python -m s2dc_core.cli`, as launchers of several processes start it."""

import sys

from s2dc_core.cli import main

sys.exit(main())
