"""What is measured: a module for each peer. They run in venvs of their own and import nothing of the conductor's."""
