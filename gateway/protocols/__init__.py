"""The client side: one package for each protocol, and the HTTP edge that they share."""
