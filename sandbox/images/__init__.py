"""Pictures drawn from a prompt, and the pixels each provider makes."""
