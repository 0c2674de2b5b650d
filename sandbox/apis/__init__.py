"""The three APIs: what each takes, answers and charges."""
