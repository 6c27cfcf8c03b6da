"""Models scored over HTTP: a table of providers and a function per wire form. No torch."""
