"""Before any test loads torch: the tests' threads, too, share the machine, and workers side by side its cores."""

import os

from joblib import cpu_count

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ.setdefault("LOKY_MAX_CPU_COUNT", str(max(1, cpu_count() // int(workers))))

import s2dc_core  # noqa: F401
