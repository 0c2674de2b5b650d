"""Batches and their rows: recorded, changed, steered, verified, adopted."""
