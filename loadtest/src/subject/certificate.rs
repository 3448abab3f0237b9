//! A certificate for a run, made on the spot: P-256, as anyone would choose.

use std::path::PathBuf;

use anyhow::Context;
use tempfile::TempDir;

/// Certificate and key in files, deleted with this.
pub(super) struct Certificate {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    _directory: TempDir,
}

impl Certificate {
    pub(super) fn make() -> anyhow::Result<Self> {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).context("cannot make a certificate")?;
        let directory = TempDir::new()?;
        let (certificate, key) = (directory.path().join("server.pem"), directory.path().join("server.key"));
        std::fs::write(&certificate, made.cert.pem())?;
        std::fs::write(&key, made.signing_key.serialize_pem())?;
        Ok(Self { certificate, key, _directory: directory })
    }
}
