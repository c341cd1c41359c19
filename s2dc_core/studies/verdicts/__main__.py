"""``python -m s2dc_core.studies.verdicts FILE`` writes the book's page."""

import sys
from pathlib import Path

from s2dc_core.studies.verdicts import verdict_page

if __name__ == "__main__":
    (file,) = sys.argv[1:]
    Path(file).write_text(verdict_page(), encoding="utf-8")
