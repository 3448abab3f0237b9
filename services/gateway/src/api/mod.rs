//! The server API for back ends.
