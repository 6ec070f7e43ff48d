"""The subject of the laws for models of generate."""

from chainrule.laws import Subject, register_subject

register_subject("generate")(Subject)
