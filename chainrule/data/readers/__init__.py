"""File formats, one a file. Each registers its reader; see `chainrule.data.formats`."""
