"""One module per Kafka API: its request and its response, every version, declared once.

The module's name is the API's name in snake case; each defines `<Name>Request` and `<Name>Response`.
"""
