"""Explanations of what a run knows and uses: views of one input, gathered in a trace that page, export and JSON share.

A view is a function of a ``ModelInput`` (the run with the input that it has read) and of what is asked; it returns a
pydantic model, so that the schema of a trace follows from its views. Each file registers its views.
"""
