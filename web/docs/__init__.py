"""The API's own description: OpenAPI, and a page to read and try it, without a request to another host."""
