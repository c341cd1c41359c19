"""S2DC taken apart: read geometry, matching, losses, model, views, features and plots, in this order."""

from s2dc_core.threads import share_the_machine

__version__ = "0.1.0"

share_the_machine()  # here, because OpenMP must find it when torch is loaded
