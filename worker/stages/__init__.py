"""What a lane does with one unit of work, in order."""
