"""Many small batches through hours of trouble, replayed from a seed, and schedules through weeks, in virtual time."""
