"""What may be started now, each decided in one transaction: submits, polls, copies, hints."""
