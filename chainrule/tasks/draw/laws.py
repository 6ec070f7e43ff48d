"""The subject of the laws for models of draw."""

from chainrule.laws import CaptionImages, register_subject

register_subject("draw")(CaptionImages)
