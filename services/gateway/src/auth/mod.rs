//! Who may come in: tokens, API keys, origins.
//!
//! A request of a client passes three questions, each in a file of its own: may the page that makes it use this node at
//! all ([`Origins`]), which credential does it present ([`Credentials`]), and what does that credential say
//! ([`Authenticator`]). A back end presents an API key instead ([`ApiKeys`]).
//!
//! Everything here is built once from the settings, immutable, and does no I/O and no waiting afterwards. A credential
//! that is presented but disabled, malformed or refused is an error; only a client that presents nothing is anonymous.
//!
//! What lives longer than a request - expiry of a live connection, refresh, revocation - belongs to the session.

pub mod api_key;
mod claims;
pub mod credential;
mod fingerprint;
pub mod jwt;
mod keys;
pub mod mint;
pub mod origin;
pub mod secret;
pub mod settings;
#[cfg(test)]
mod tests;

pub use api_key::{ApiKey, ApiKeyFailure, ApiKeys, Scope};
pub use credential::Credentials;
pub use jwt::{Authenticator, unix_now};
pub use mint::{CapRequest, Signer, TokenRequest};
pub use origin::{Caller, ForeignOrigin, Origins};
pub use secret::Secret;
pub use settings::{KeySettings, Settings};

/// Makes aws-lc the one cryptography of the process, for TLS and tokens alike. First thing in `main`; doing it twice is
/// harmless.
pub fn install_crypto() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}
