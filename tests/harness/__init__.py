"""What the Python suites share: node processes, traffic, and small words for Triton's clients."""
