//! Who may come in: tokens, API keys, origins.
