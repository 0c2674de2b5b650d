"""Manifests, as files have them: rows out of CSV, JSONL and batch files, their columns and their templates."""
