"""One experiment from beginning to end."""
