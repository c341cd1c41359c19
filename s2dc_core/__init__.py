"""S2DC taken apart: read geometry, matching, losses, model, views, features and plots, in this order."""

__version__ = "0.1.0"
