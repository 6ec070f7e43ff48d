"""The task codes."""
