"""Public data sets that are fetched by hand, each a description that one builder reads."""
