"""Decisions, pure: facts and moments in, a decision out. No clock, no file, no ledger."""
