"""What is drawn on the screen: widgets that take data by attribute and tell by message. No I/O."""
