"""Manifests, as files have them: rows out of CSV, .xlsx, JSON, Parquet, text and batch files, their columns and their templates."""
