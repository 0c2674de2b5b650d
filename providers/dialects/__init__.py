"""How each provider is spoken to: requests as values out, answers in. No I/O."""
