"""The database below the ledger: tables, connections, schema steps, and the files beside a SQLite ledger."""
