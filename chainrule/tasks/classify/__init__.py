"""The task classify."""
