"""Batches whose bulk goes into an archive, and comes back: who may, what is read for it, what stays in the ledger."""
