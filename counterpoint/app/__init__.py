"""Command line, configuration and supervision: the only room that knows every other."""
