//! Codecs: the neutral commands, replies and pushes as bytes, and back. A framing goes around them ([`crate::framing`]).

pub mod json;
