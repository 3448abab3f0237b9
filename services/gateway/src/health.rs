//! Health endpoints.
