"""The subject of the laws for models of translate."""

from chainrule.laws import Sourced, register_subject

register_subject("translate")(Sourced)
