"""What several pretext tasks are made of, one idea a file."""
