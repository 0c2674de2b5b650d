"""A stand-in for the three providers and their CDN. Imports nothing of ours."""
