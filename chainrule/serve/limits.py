"""Limits of one request. Every number is checked against these before anything is allocated."""

BODY = 8 << 20
"""Bytes of a request's body."""
FIELDS = 64
"""Fields of an object in a request."""
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
"""Time that an answer may take, unless ``--timeout`` says otherwise."""
TEXTS = 1024
"""Texts or sequences of one request."""
LISTED = 1000
"""Most probable tokens that are listed for a sequence, or for a mask."""
ROWS = 2048
"""Hypotheses that the beam searches of one request may keep at once: texts x beams."""
IMAGES = 64
"""Images of one request."""
LENGTH = 65536
"""Items of a list in a request: events of a sequence, numbers of a series, tokens of a sentence."""
LAYERS = 1024
"""Layers of a model, and attention heads of a layer, that can be asked for."""
NUMBERS: dict[str, tuple[float, float]] = {
    "top_k": (1, LISTED), "max_tokens": (1, TOKENS), "n": (1, CHOICES), "seed": (0, 2**63 - 1), "beams": (1, BEAMS),
    "n_best": (1, BEAMS), "length_penalty": (-10, 10), "coverage_penalty": (0, 10), "min_length": (0, TOKENS),
    "max_length": (1, TOKENS), "no_repeat_ngram": (0, TOKENS), "diverse": (1, BEAMS),
    "at": (0, TOKENS - 1), "begin": (0, TOKENS - 1), "end": (1, TOKENS),
    "key": (-1, TOKENS - 1), "source": (0, TOKENS - 1), "layer": (0, LAYERS - 1), "head": (0, LAYERS - 1),
}  # fmt: skip
"""Least and largest value of every number that a command takes from a client."""
