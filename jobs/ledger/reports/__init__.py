"""What people ask the ledger. Reads only."""
