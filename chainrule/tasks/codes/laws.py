"""The subject of the laws for models of codes."""

from chainrule.laws import Coded, register_subject

register_subject("codes")(Coded)
