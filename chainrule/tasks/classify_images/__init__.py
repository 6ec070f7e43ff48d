"""The task classify-images."""
