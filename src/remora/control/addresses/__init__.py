"""Function URLs, served: an HTTP request becomes an event, what the function returns an answer."""
