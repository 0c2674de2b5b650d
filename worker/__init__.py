"""Does the work: stages, lanes, and the edges to HTTP, storage and Celery."""
