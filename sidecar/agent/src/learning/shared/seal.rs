//! Signatures of bundles.
//!
//! A signed object is the bundle's file and 112 bytes after it: the signature (64 bytes, Ed25519 over
//! [`MARK`] and the file), the public key (32 bytes) and [`MARK`]. An object without that end is not
//! signed.

use std::{
    io,
    path::{Path, PathBuf},
};

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer, pem::PemObject as _};
use thiserror::Error;

use super::Refusal;

const MARK: &[u8; 16] = b"stethos-ed25519\n";
const SIGNATURE: usize = 64;
const PUBLIC_KEY: usize = 32;
/// Bytes of a signature's end of an object.
pub const END: usize = SIGNATURE + PUBLIC_KEY + MARK.len();
/// An Ed25519 public key in DER (RFC 8410) is this and the key.
const PUBLIC_KEY_HEAD: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// A key file cannot be used.
#[derive(Debug, Error)]
pub enum KeyError {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: no Ed25519 {kind} key in PEM ({reason})", path.display())]
    Invalid {
        path: PathBuf,
        kind: &'static str,
        reason: String,
    },
}

/// With which key bundles are signed, and whose signatures are believed.
#[derive(Debug, Default)]
pub struct Keys {
    signing: Option<Ed25519KeyPair>,
    /// None when bundles need no signature.
    trusted: Option<Vec<[u8; PUBLIC_KEY]>>,
}

impl Keys {
    /// Reads PEM files: a PKCS#8 private key, and public keys. No `trusted` ones: bundles need no
    /// signature. The key that signs is trusted, too.
    ///
    /// # Errors
    /// A file that cannot be read or holds no such key.
    pub fn read(signing: Option<&Path>, trusted: &[PathBuf]) -> Result<Self, KeyError> {
        let signing = signing.map(private_key).transpose()?;
        let mut trusted = trusted
            .iter()
            .map(|path| public_key(path))
            .collect::<Result<Vec<_>, _>>()?;
        if let (Some(pair), false) = (&signing, trusted.is_empty()) {
            trusted.extend(<[u8; PUBLIC_KEY]>::try_from(pair.public_key().as_ref()));
        }
        Ok(Self {
            signing,
            trusted: (!trusted.is_empty()).then_some(trusted),
        })
    }

    /// Whether what this sidecar stores would be believed by itself.
    pub fn can_save(&self) -> bool {
        self.trusted.is_none() || self.signing.is_some()
    }

    /// The object of a bundle's file.
    pub fn seal(&self, mut file: Vec<u8>) -> Vec<u8> {
        if let Some(pair) = &self.signing {
            let signature = pair.sign(&signed(&file));
            file.extend_from_slice(signature.as_ref());
            file.extend_from_slice(pair.public_key().as_ref());
            file.extend_from_slice(MARK);
        }
        file
    }

    /// The bundle's file in an object.
    ///
    /// # Errors
    /// Where signatures are needed: none, one by another key, or a wrong one.
    pub fn open<'a>(&self, object: &'a [u8]) -> Result<&'a [u8], Refusal> {
        let split = object
            .strip_suffix(MARK)
            .and_then(|rest| rest.split_last_chunk::<PUBLIC_KEY>())
            .and_then(|(rest, key)| Some((rest.split_last_chunk::<SIGNATURE>()?, key)));
        let Some(trusted) = &self.trusted else {
            return Ok(split.map_or(object, |((file, _), _)| file));
        };
        let ((file, signature), key) = split.ok_or(Refusal::Unsigned)?;
        if !trusted.contains(key) {
            return Err(Refusal::Untrusted);
        }
        UnparsedPublicKey::new(&ED25519, key)
            .verify(&signed(file), signature)
            .map_err(|_unspecified| Refusal::Signature)?;
        Ok(file)
    }
}

fn signed(file: &[u8]) -> Vec<u8> {
    [MARK, file].concat()
}

fn private_key(path: &Path) -> Result<Ed25519KeyPair, KeyError> {
    let invalid = |reason: String| KeyError::Invalid {
        path: path.to_owned(),
        kind: "private",
        reason,
    };
    let der =
        PrivatePkcs8KeyDer::from_pem_slice(&read(path)?).map_err(|e| invalid(e.to_string()))?;
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
        .map_err(|rejected| invalid(rejected.to_string()))
}

fn public_key(path: &Path) -> Result<[u8; PUBLIC_KEY], KeyError> {
    let invalid = |reason: String| KeyError::Invalid {
        path: path.to_owned(),
        kind: "public",
        reason,
    };
    let der = SubjectPublicKeyInfoDer::from_pem_slice(&read(path)?)
        .map_err(|e| invalid(e.to_string()))?;
    der.as_ref()
        .strip_prefix(&PUBLIC_KEY_HEAD)
        .and_then(|key| key.try_into().ok())
        .ok_or_else(|| invalid("a key of another kind".to_owned()))
}

fn read(path: &Path) -> Result<Vec<u8>, KeyError> {
    std::fs::read(path).map_err(|source| KeyError::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{KeyFiles, pem};
    use super::*;

    #[test]
    fn a_trusted_signature_opens_and_no_other() {
        let files = KeyFiles::new();
        let keys = |signing, trusted: &[PathBuf]| Keys::read(signing, trusted).unwrap();
        let first = keys(Some(&files.private[0]), &files.public[..1]);
        let second = keys(Some(&files.private[1]), &[]);
        let sealed = first.seal(b"file".to_vec());
        assert_eq!(sealed.len(), 4 + END);
        assert!(matches!(first.open(&sealed), Ok(b"file")));
        let reader = keys(None, &files.public[..1]);
        assert!(matches!(reader.open(&sealed), Ok(b"file")));
        assert!(!reader.can_save() && first.can_save());
        assert!(matches!(first.open(b"file"), Err(Refusal::Unsigned)));
        let other = second.seal(b"file".to_vec());
        assert!(matches!(first.open(&other), Err(Refusal::Untrusted)));
        // Without trusted keys a signature says nothing.
        assert!(matches!(second.open(&sealed), Ok(b"file")));
    }

    #[test]
    fn every_changed_byte_of_a_signed_object_is_noticed() {
        let files = KeyFiles::new();
        let keys = Keys::read(Some(&files.private[0]), &files.public[..1]).unwrap();
        let sealed = keys.seal(b"file".to_vec());
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 0x20;
            assert!(keys.open(&changed).is_err(), "byte {place}");
        }
    }

    #[test]
    fn the_key_that_signs_is_trusted() {
        let files = KeyFiles::new();
        let keys = Keys::read(Some(&files.private[0]), &files.public[1..2]).unwrap();
        assert!(keys.open(&keys.seal(b"file".to_vec())).is_ok());
    }

    #[test]
    fn what_is_no_key_is_refused_by_name() {
        let files = KeyFiles::new();
        let refused = |signing: Option<&Path>, trusted: &[PathBuf]| {
            Keys::read(signing, trusted).unwrap_err().to_string()
        };
        let missing = files.private[0].with_file_name("missing.pem");
        assert!(refused(Some(&missing), &[]).contains("missing.pem"));
        // A public key where a private one belongs, the other way round, and one for RSA.
        assert!(refused(Some(&files.public[0]), &[]).contains("public-0.pem"));
        assert!(refused(None, &files.private[..1]).contains("private-0.pem"));
        let rsa = files.private[0].with_file_name("rsa.pem");
        std::fs::write(&rsa, pem("PUBLIC", "MAsGCSqGSIb3DQEBAQ==")).unwrap();
        assert!(refused(None, &[rsa]).contains("another kind"));
    }
}
