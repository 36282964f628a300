"""The relying-party side: registration of clients, and examples of clients."""
