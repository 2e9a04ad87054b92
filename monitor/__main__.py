"""`python -m monitor` is `runwarden`."""

import sys

from monitor.cli import main

sys.exit(main())
