"""What can be made, by which provider, at what price: data, and the questions asked of it."""
