"""The subject of the laws for models of classify-images."""

from chainrule.laws import Shown, register_subject

register_subject("classify-images")(Shown)
