"""What a process is made of: time, threads, logs, wakeups, health, shutdown."""
