"""Tests, by what they need: nothing (unit, contract), servers (integration), whole processes (acceptance)."""
