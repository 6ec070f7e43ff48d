"""The subject of the laws for models of classify."""

from chainrule.laws import Records, register_subject

register_subject("classify")(Records)
