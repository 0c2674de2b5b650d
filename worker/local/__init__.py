"""A run in this process: until its batch has ended, or only a person can help."""
