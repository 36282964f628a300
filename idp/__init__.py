"""The provider: who you are, and proof of it."""
