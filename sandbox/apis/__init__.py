"""The providers' APIs: what each takes, answers and charges. One provider is one file, listed in `registry.py`."""
