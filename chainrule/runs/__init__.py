"""A run as data: what was loaded from a run folder, or has just been trained."""
