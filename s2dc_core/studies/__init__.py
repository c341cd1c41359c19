"""The studies whose numbers the course shows: trainings over seeds, each with its record."""
