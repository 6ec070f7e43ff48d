"""The task draw."""
