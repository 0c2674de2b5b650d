"""What happened, recorded by id whatever the lease or the state says by then; and what follows from it."""
