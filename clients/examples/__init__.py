"""Runnable examples: strangers that speak HTTP and OpenID Connect and import nothing of ours."""
