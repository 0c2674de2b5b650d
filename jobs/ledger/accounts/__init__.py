"""Accounts and what limits them: declared and learnt limits, budgets, destinations, workers, the emergency stop."""
