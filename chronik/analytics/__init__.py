"""Analytics over the log: SQL on any topic, and windows that are kept up to date."""
