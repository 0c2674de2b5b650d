"""Schedules: times that have come are fired, their manifests read, their batches recorded and followed."""
