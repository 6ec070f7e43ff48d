"""The subject of the laws for models of tag."""

from chainrule.laws import Tokens, register_subject

register_subject("tag")(Tokens)
