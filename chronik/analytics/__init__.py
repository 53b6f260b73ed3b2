"""SQL over topics: statements are parsed, planned and run in worker processes; the node's side finds the logs and asks."""
