"""OpenAI's Files and Batch API: programs that speak it need another address and a token, and nothing else."""
