"""What runs inside the box: sent over its control socket, so they import each other alone."""
