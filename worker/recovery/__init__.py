"""What is put right afterwards: objects verified and copied anew, a lost ledger rebuilt, a task adopted."""
