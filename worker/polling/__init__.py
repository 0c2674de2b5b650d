"""When provider tasks are asked about, and how many with one request."""
