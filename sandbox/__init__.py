"""A stand-in for the providers and their CDN. Imports nothing of ours."""
