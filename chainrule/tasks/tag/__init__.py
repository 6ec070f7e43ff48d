"""The task tag."""
