"""What the command line and the screen share: threads, sampling, operations, commands. Knows neither of them."""
