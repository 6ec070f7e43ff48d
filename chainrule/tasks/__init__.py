"""Tasks, one package each: what is read, what is learned from it, how it is evaluated, and what a board shows of it."""
