"""What is asked for: plugins by name, requests, cells."""
