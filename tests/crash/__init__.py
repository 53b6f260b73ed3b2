"""A node killed with SIGKILL under load, over and over, and what its clients find afterwards."""
