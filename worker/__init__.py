"""Does the work: stages, crew, and the edges to HTTP, storage and Celery."""
