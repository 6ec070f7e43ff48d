"""The task fill."""
