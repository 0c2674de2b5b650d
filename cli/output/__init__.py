"""How things are said: screens, documents, and the words for money, times and counts."""
