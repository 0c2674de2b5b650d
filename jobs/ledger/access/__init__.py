"""Who may do what, and who did what: tokens, what they hold of their daily budgets, and the log."""
