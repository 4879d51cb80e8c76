"""The roles that make up the mail system: one package a role, and `common` for what all share."""
