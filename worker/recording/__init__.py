"""Facts on their way to the ledger, and to a file where it cannot take them."""
