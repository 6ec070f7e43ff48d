"""The task series."""
