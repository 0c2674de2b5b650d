"""What became of each row, as lines, files and pages; and how a batch goes."""
