"""Before any test loads torch: the tests' threads, too, share the machine."""

import s2dc_core  # noqa: F401
