"""The task generate."""
