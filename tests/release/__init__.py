"""What `make build` made is looked at as a user meets it: what is in the sdist, what the wheel installs and does."""
