//! The page at `/` for trying things out.
