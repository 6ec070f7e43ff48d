"""The subject of the laws for models of fill."""

from chainrule.laws import WholeRows, register_subject

register_subject("fill")(WholeRows)
