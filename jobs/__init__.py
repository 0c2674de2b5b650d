"""A batch's life on record. No HTTP, no Celery, no Redis."""
