"""From a manifest to rows with a request, a path, a route and a price, and what they all come to."""
