"""Experiments: several models on the same data under the same budget, as a graph of jobs whose result files make the
board.

    settings -> rows -> jobs (prepare, train, measure) -> result files -> board.json -> statistics -> verdict -> report

``run.run`` runs one; ``publish.rebuild`` writes its board again from the result files. Importing this package
imports no torch.
"""
