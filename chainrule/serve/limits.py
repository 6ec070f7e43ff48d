"""Limits of one request. Every number is checked against these before anything is allocated."""

BODY = 8 << 20
"""Bytes of a request's body."""
TOKENS = 4096
"""Tokens that one sequence may be continued by."""
CHOICES = 128
"""Sequences that one request may ask for: prompts x n."""
WORK = 1 << 20
"""Tokens that one request may cost: those of its prompts, read once each, and all that it may generate."""
BEAMS = 32
"""Beams of a search."""
ALTERNATIVES = 20
"""Most probable tokens that are reported at each place."""
STOPS = 16
"""Texts that end a sequence."""
STOP_LENGTH = 256
"""Characters of such a text."""
SECONDS = 120.0
"""Time that one request may take, unless it asks for less."""
