"""Many small batches through hours of trouble, in virtual time, replayed from a seed."""
