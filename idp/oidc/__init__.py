"""OpenID Connect and OAuth 2.0, one file per topic; protocol words only."""
