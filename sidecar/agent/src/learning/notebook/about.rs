//! What a notebook is about, in JSON beside it: a process that comes after one that was ended goes on
//! with it.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    learning::store::{StoreError, write_whole},
    record::Nanos,
};

/// The format written, and the only one read.
const FORMAT: u32 = 1;
/// A longer file is not read.
const LONGEST: u64 = 1 << 20;
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// Which containers learn, and what of the recording is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    format: u32,
    /// Times are of this boot of the machine.
    boot: String,
    /// By name.
    pub containers: BTreeMap<String, Learner>,
}

/// A container that learns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Learner {
    /// What its bundles are kept under.
    pub key: String,
    /// Digest of its image, where that is known.
    pub image: Option<String>,
    /// Spans of which nothing is learned, in ns of the recording's clock; an incident that is open lasts
    /// to the end of time.
    pub left_out: Vec<(Nanos, Nanos)>,
    /// A fault was confirmed while it learned.
    pub spoilt: bool,
}

impl About {
    /// Of this boot.
    pub fn new(containers: BTreeMap<String, Learner>) -> Self {
        About {
            format: FORMAT,
            boot: boot(),
            containers,
        }
    }

    /// Where it lies beside a recording.
    pub(super) fn path(recording: &Path) -> PathBuf {
        recording.with_extension("json")
    }

    pub(super) fn write(&self, recording: &Path) -> Result<(), StoreError> {
        let path = Self::path(recording);
        let bytes = serde_json::to_vec(self).map_err(|error| StoreError::Io {
            path: path.clone(),
            source: error.into(),
        })?;
        write_whole(&path, &bytes)
    }

    /// What is said of a recording; the error says why it cannot be gone on with.
    pub(super) fn read(recording: &Path) -> Result<Self, String> {
        let path = Self::path(recording);
        let length = fs::metadata(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "nothing says what it is about".to_owned(),
            _ => error.to_string(),
        });
        let length = length?.len();
        if length > LONGEST {
            return Err(format!(
                "what it is about is {length} bytes long; at most {LONGEST} are read"
            ));
        }
        let bytes = fs::read(&path).map_err(|error| error.to_string())?;
        let about: About = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        if about.format != FORMAT {
            return Err(format!(
                "format {}; this program reads format {FORMAT}",
                about.format
            ));
        }
        if about.boot.is_empty() || about.boot != boot() {
            return Err("the machine was started since".to_owned());
        }
        if about.containers.is_empty() {
            return Err("nobody learned from it".to_owned());
        }
        Ok(about)
    }
}

/// Names this boot of the machine; empty where that cannot be read.
fn boot() -> String {
    let boot = fs::read_to_string(BOOT).unwrap_or_default();
    boot.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_comes_back_and_what_cannot_be_used_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let recording = folder.path().join("learning-1.rec");
        assert!(About::read(&recording).unwrap_err().contains("nothing"));
        let learner = Learner {
            key: "api-1".to_owned(),
            image: None,
            left_out: vec![(1, 2), (7, Nanos::MAX)],
            spoilt: true,
        };
        let about = About::new([("api".to_owned(), learner)].into());
        about.write(&recording).unwrap();
        assert_eq!(About::read(&recording), Ok(about));

        let path = About::path(&recording);
        let sound = fs::read_to_string(&path).unwrap();
        for (damaged, reason) in [
            (sound[..sound.len() / 2].to_owned(), "EOF"),
            (sound.replace("\"format\":1", "\"format\":2"), "format 2"),
            (sound.replace(&boot(), "another"), "started since"),
            (sound.replace("\"key\"", "\"other\""), "other"),
        ] {
            assert_ne!(damaged, sound);
            fs::write(&path, damaged).unwrap();
            let said = About::read(&recording).unwrap_err();
            assert!(said.contains(reason), "{said}");
        }
    }
}
