"""Manifests, as files have them: rows out of CSV, .xlsx, JSON, Parquet and text, their columns and their templates."""
