"""Forms of text: a module each, which registers its parser by `pigen.io.formats.reader`."""
