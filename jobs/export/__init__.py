"""Data sets made of batches: what a sample is called, says and belongs to, and what their card tells."""
