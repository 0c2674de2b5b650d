"""The frozen values that go into and come out of the ledger. Times: Unix seconds (UTC); money: micro-dollars."""
