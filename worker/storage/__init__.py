"""Where images end up: buckets and folders."""
