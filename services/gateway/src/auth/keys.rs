//! Keys of the settings, made ready to verify with.

use std::path::Path;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey};

use super::secret::{unseen, without_line_break};
use super::settings::KeySettings;
use crate::config::Problems;

/// Shorter HMAC secrets can be guessed from one token (RFC 7518, 3.2).
const MIN_SECRET_BYTES: usize = 32;
/// The modulus alone of a 2048-bit RSA key has as many bytes; shorter keys are broken.
const MIN_RSA_BYTES: usize = 256;

/// Room for the longest signature made with a secret, that of HS512, and for the decoder's estimate of it.
const MAC_BYTES: usize = 72;

/// One usable key.
pub(super) struct Key {
    /// The algorithm it is for.
    pub(super) algorithm: Algorithm,
    /// Its name.
    pub(super) kid: Option<String>,
    /// The issuer it is bound to.
    pub(super) issuer: Option<String>,
    /// What verifies.
    pub(super) verifying: Verifying,
    /// What signs, for HMAC keys.
    pub(super) signing: Option<EncodingKey>,
}

/// A key in the form in which it verifies.
pub(super) enum Verifying {
    /// A secret, its half of the hashing done once and for all.
    Secret(Box<hmac::Key>),
    /// A public key.
    Public(DecodingKey),
}

impl Key {
    /// Whether this key made the signature, which is in base64.
    pub(super) fn signed(&self, signed: &str, signature: &str) -> bool {
        match &self.verifying {
            Verifying::Secret(key) => {
                let mut made = [0; MAC_BYTES];
                let len = URL_SAFE_NO_PAD.decode_slice(signature, &mut made);
                len.is_ok_and(|len| hmac::verify(key, signed.as_bytes(), &made[..len]).is_ok())
            }
            Verifying::Public(key) => {
                jsonwebtoken::crypto::verify(signature, signed.as_bytes(), key, self.algorithm).unwrap_or(false)
            }
        }
    }
}

/// Reads all keys; files are read here and not again.
pub(super) fn read(keys: &[KeySettings]) -> Result<Vec<Key>, Problems> {
    let mut problems = Problems::default();
    let mut ready = Vec::with_capacity(keys.len());
    for (index, settings) in keys.iter().enumerate() {
        ready.extend(problems.absorb(read_one(settings, &format!("auth.keys[{index}]"))));
    }
    problems.into_result(ready)
}

fn read_one(settings: &KeySettings, path: &str) -> Result<Key, Problems> {
    let mut problems = Problems::default();
    let algorithm = settings.algorithm;
    let kid = settings.kid.clone();
    let issuer = settings.issuer.clone();
    problems.require(kid.as_deref() != Some(""), &format!("{path}.kid"), "empty; leave it out instead");
    problems.require(issuer.as_deref() != Some(""), &format!("{path}.issuer"), "empty; leave it out instead");

    let material = if algorithm.family() == AlgorithmFamily::Hmac {
        problems.absorb(hmac_secret(settings, path)).map(|secret| {
            let hash = match algorithm {
                Algorithm::HS384 => hmac::HMAC_SHA384,
                Algorithm::HS512 => hmac::HMAC_SHA512,
                _ => hmac::HMAC_SHA256,
            };
            let verifying = Verifying::Secret(Box::new(hmac::Key::new(hash, secret.as_bytes())));
            (verifying, Some(EncodingKey::from_secret(secret.as_bytes())))
        })
    } else {
        problems.absorb(public_key(settings, path)).map(|key| (Verifying::Public(key), None))
    };
    match material {
        Some((verifying, signing)) => problems.into_result(Key { algorithm, kid, issuer, verifying, signing }),
        None => Err(problems),
    }
}

fn hmac_secret(settings: &KeySettings, path: &str) -> Result<String, Problems> {
    let mut problems = Problems::default();
    let algorithm = settings.algorithm;
    problems.require(
        settings.public_key.is_none() && settings.public_key_file.is_none(),
        &format!("{path}.public_key"),
        &format!("{algorithm:?} has no public key; set algorithm to RS256, ES256 or EdDSA, or give a secret"),
    );
    let (name, secret) = match (&settings.secret, &settings.secret_file) {
        (Some(secret), None) => ("secret", Some(secret.expose().to_owned())),
        (None, Some(file)) => ("secret_file", problems.absorb(read_file(file, &format!("{path}.secret_file")))),
        (Some(_), Some(_)) => {
            problems.add(format!("{path}.secret_file"), "secret is set as well; keep one of them");
            ("secret", None)
        }
        (None, None) => {
            problems.add(format!("{path}.secret"), format!("{algorithm:?} needs secret or secret_file"));
            ("secret", None)
        }
    };
    let secret = secret.map(|text| without_line_break(&text).to_owned()).unwrap_or_default();
    if problems.iter().next().is_none() {
        if let Some(fault) = unseen(&secret) {
            problems.add(format!("{path}.{name}"), fault);
        } else if secret.len() < MIN_SECRET_BYTES {
            let length = secret.len();
            let fault = format!(
                "{length} bytes; at least {MIN_SECRET_BYTES} are needed (openssl rand -base64 {MIN_SECRET_BYTES})"
            );
            problems.add(format!("{path}.{name}"), fault);
        } else if secret.contains("-----BEGIN") {
            // A public key as an HMAC secret would let everybody who can read it sign tokens.
            let fault = "a PEM key; set algorithm to RS256, ES256 or EdDSA and move it to public_key";
            problems.add(format!("{path}.{name}"), fault);
        }
    }
    problems.into_result(secret)
}

fn public_key(settings: &KeySettings, path: &str) -> Result<DecodingKey, Problems> {
    let mut problems = Problems::default();
    let algorithm = settings.algorithm;
    problems.require(
        settings.secret.is_none() && settings.secret_file.is_none(),
        &format!("{path}.secret"),
        &format!("{algorithm:?} is verified with a public key; give public_key, or set algorithm to HS256"),
    );
    let (name, pem) = match (&settings.public_key, &settings.public_key_file) {
        (Some(pem), None) => ("public_key", Some(pem.clone())),
        (None, Some(file)) => ("public_key_file", problems.absorb(read_file(file, &format!("{path}.public_key_file")))),
        (Some(_), Some(_)) => {
            problems.add(format!("{path}.public_key_file"), "public_key is set as well; keep one of them");
            ("public_key", None)
        }
        (None, None) => {
            problems.add(format!("{path}.public_key"), format!("{algorithm:?} needs public_key or public_key_file"));
            ("public_key", None)
        }
    };
    let setting = format!("{path}.{name}");
    let key = pem.and_then(|pem| match parse_pem(algorithm, &pem) {
        Ok(key) => Some(key),
        Err(fault) => {
            problems.add(setting, fault);
            None
        }
    });
    match key {
        Some(key) => problems.into_result(key),
        None => Err(problems),
    }
}

fn parse_pem(algorithm: Algorithm, pem: &str) -> Result<DecodingKey, String> {
    if pem.contains("PRIVATE KEY") {
        return Err("a private key; a node needs only the public one (openssl pkey -pubout)".to_owned());
    }
    let key = match algorithm.family() {
        AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(pem.as_bytes()),
        AlgorithmFamily::Ec => DecodingKey::from_ec_pem(pem.as_bytes()),
        _ => DecodingKey::from_ed_pem(pem.as_bytes()),
    }
    .map_err(|_| format!("not a public key for {algorithm:?} in PEM form (-----BEGIN PUBLIC KEY-----)"))?;

    let length = key.try_get_as_bytes().map_or(0, <[u8]>::len);
    let fits = match algorithm {
        // Uncompressed points of P-256 and P-384, a bare Ed25519 key.
        Algorithm::ES256 => length == 65,
        Algorithm::ES384 => length == 97,
        Algorithm::EdDSA => length == 32,
        _ => length >= MIN_RSA_BYTES,
    };
    match algorithm.family() {
        _ if fits => Ok(key),
        AlgorithmFamily::Rsa => Err("an RSA key of less than 2048 bits; make a longer one".to_owned()),
        _ => Err(format!("a key on another curve than {algorithm:?} uses")),
    }
}

fn read_file(file: &Path, setting: &str) -> Result<String, Problems> {
    std::fs::read_to_string(file).map_err(|error| {
        let mut problems = Problems::default();
        problems.add(setting, format!("cannot read {}: {error}", file.display()));
        problems
    })
}
