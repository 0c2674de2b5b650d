"""Schedules, and what has become of their times: each is fired once, whoever looks."""
