"""Archives of finished batches: written as Parquet, read back and compared, and read instead of the ledger."""
