"""Finds what the build finds: the source, and the SDK where the project is laid out (target/guests)."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "vendor")]
