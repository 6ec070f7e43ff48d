"""The subject of the laws for models of series."""

from chainrule.laws import Numbers, register_subject

register_subject("series")(Numbers)
