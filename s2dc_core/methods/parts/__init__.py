"""What several pretext tasks share, one idea a file."""
