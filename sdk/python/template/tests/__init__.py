"""Finds what `wharf plugin build` finds: the source and what is vendored."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "vendor")]
