"""What both ends of a connection show each other, and the files in which it is."""
