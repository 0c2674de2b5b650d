"""What is promised to others: how providers are spoken to, prices, error codes, the rules of the house."""
