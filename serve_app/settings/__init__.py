"""Every setting of the service, declared once."""
