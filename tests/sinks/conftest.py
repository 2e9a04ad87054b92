"""Makes `doubles` importable: the loopback services that tests and benchmarks share."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
