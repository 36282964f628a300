"""The seam: a request becomes plain facts, a handler answers, an error becomes a response."""
