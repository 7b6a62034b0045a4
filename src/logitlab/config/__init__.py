"""Validated configuration, and the errors that every layer raises. No torch."""
