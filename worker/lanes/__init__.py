"""The loop that claims work and runs its stages, in a local run and in a Celery worker."""
