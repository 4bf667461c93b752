//! Under which name a bundle lies in a shared store.
//!
//! `TENANT/vFORMAT/ARCH/WORKLOAD/CONTAINER/COMMAND/IMAGE.bundle`: what a replica looks for first is one
//! object, and what older versions of its image left lies beside it. Bundles of another format have
//! other readers, so they have another place.

use std::borrow::Cow;

use object_store::path::{Path, PathPart};
use sha2::{Digest as _, Sha256};
use stethos_bundle::{ModelCard, Subject, file::VERSION};

use super::Refusal;
use crate::learning::store::{digest, hex};

/// Stands for an image whose digest is not known.
const UNKNOWN_IMAGE: &str = "unknown";
const EXTENSION: &str = ".bundle";
const WITNESSES: &str = ".seen";
/// A longer name is cut in a path, and ends with its digest.
const LONGEST_NAME: usize = 64;
/// Bytes of a digest that stand in a path.
const DIGEST_BYTES: usize = 16;

/// What a bundle is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub arch: String,
    pub container: String,
    pub subject: Subject,
}

impl Place {
    /// Where the bundles of all versions of the image lie.
    pub fn folder(&self, prefix: &Path) -> Path {
        let version = format!("v{VERSION}");
        let names = [
            &self.subject.tenant,
            &version,
            &self.arch,
            &self.subject.workload,
            &self.container,
            &self.subject.command,
        ];
        names.into_iter().fold(prefix.clone(), |path, name| {
            path.join(PathPart::from(&*short(name)))
        })
    }

    /// Where the bundle of this version lies.
    pub fn path(&self, prefix: &Path) -> Path {
        self.beside(prefix, EXTENSION)
    }

    /// Where replicas say that they have seen this version healthy.
    pub fn witnesses(&self, prefix: &Path) -> Path {
        self.beside(prefix, WITNESSES)
    }

    pub fn witness(&self, prefix: &Path, replica: &str) -> Path {
        self.witnesses(prefix)
            .join(PathPart::from(digest::<8>([replica]).as_str()))
    }

    fn beside(&self, prefix: &Path, ending: &str) -> Path {
        let image = self.subject.image.as_deref().unwrap_or(UNKNOWN_IMAGE);
        let name = format!("{}{ending}", short(&image.replace(':', "-")));
        self.folder(prefix).join(PathPart::from(name.as_str()))
    }

    /// Whether an object of the folder is a bundle: half-written ones of folders are not.
    pub fn is_bundle(path: &Path) -> bool {
        path.as_ref().ends_with(EXTENSION)
    }

    /// Says in the card what the bundle is for.
    pub fn stamp(&self, card: &mut ModelCard) {
        card.container.clone_from(&self.container);
        card.subject = Some(self.subject.clone());
    }

    /// Whether a bundle that lies at `path` below `prefix` is for this place and belongs there; of the
    /// image, another version may.
    ///
    /// # Errors
    /// [`Refusal::Foreign`] with the first thing that differs.
    pub fn takes(&self, card: &ModelCard, prefix: &Path, path: &Path) -> Result<(), Refusal> {
        let subject = card.subject.as_ref().ok_or(Refusal::Nameless)?;
        let pairs = [
            ("architecture", &card.arch, &self.arch),
            ("tenant", &subject.tenant, &self.subject.tenant),
            ("workload", &subject.workload, &self.subject.workload),
            ("container", &card.container, &self.container),
            ("command", &subject.command, &self.subject.command),
        ];
        if let Some((what, found, wanted)) = pairs.iter().find(|(_, found, wanted)| found != wanted)
        {
            return Err(Refusal::foreign(what, found, wanted));
        }
        let its_own = Place {
            subject: subject.clone(),
            ..self.clone()
        };
        if its_own.path(prefix) == *path {
            return Ok(());
        }
        let found = subject.image.as_deref().unwrap_or(UNKNOWN_IMAGE);
        let wanted = path.filename().unwrap_or_default();
        Err(Refusal::foreign("image", found, wanted))
    }

    /// Whether a bundle was learned from another version of the image; unknown where either digest
    /// is not known, and then taken for the same.
    pub fn is_other_version(&self, card: &ModelCard) -> bool {
        let found = card
            .subject
            .as_ref()
            .and_then(|subject| subject.image.as_ref());
        let mine = self.subject.image.as_ref();
        found.is_some() && mine.is_some() && found != mine
    }
}

/// Digest of an executable and its command line.
pub fn command(executable: &str, command_line: &[String]) -> String {
    let words = std::iter::once(executable).chain(command_line.iter().map(String::as_str));
    digest::<DIGEST_BYTES>(words)
}

/// The digest within what a runtime tells of an image: `repository@sha256:…` or `sha256:…`.
pub fn image(told: &str) -> Option<String> {
    let digest = told
        .rsplit_once('@')
        .map_or(told, |(_repository, digest)| digest);
    (!digest.is_empty()).then(|| digest.to_owned())
}

fn short(name: &str) -> Cow<'_, str> {
    if name.is_empty() {
        return Cow::Borrowed("_");
    }
    if name.len() <= LONGEST_NAME + EXTENSION.len() + "sha256-".len() {
        return Cow::Borrowed(name);
    }
    let start: String = name.chars().take(LONGEST_NAME / 4).collect();
    let digest = Sha256::digest(name.as_bytes());
    Cow::Owned(format!("{start}-{}", hex(&digest[..DIGEST_BYTES])))
}

#[cfg(test)]
mod tests {
    use stethos_bundle::sample::bundle;

    use super::super::tests::place;
    use super::*;

    #[test]
    fn the_path_tells_everything_and_the_image_last() {
        let mut place = place();
        let path = place.path(&Path::from("models")).to_string();
        let folder = format!("models/default/v{VERSION}/x86_64/shop.api/api/00ff/");
        assert_eq!(path, format!("{folder}sha256-aa.bundle"));
        place.subject.image = None;
        let path = place.path(&Path::from("models")).to_string();
        assert_eq!(path, format!("{folder}unknown.bundle"));
        place.subject.workload = String::new();
        assert_eq!(place.path(&Path::default()).parts_count(), 7);
    }

    #[test]
    fn no_name_leaves_its_part_of_the_path() {
        let mut place = place();
        let long = "é".repeat(500);
        for name in ["../../x", "..", "a/b", "a\\b", "a b", &long] {
            place.subject.workload = name.to_owned();
            let path = place.path(&Path::default());
            assert_eq!(path.parts_count(), 7, "{path}");
            assert!(path.as_ref().len() < 400, "{path}");
            assert!(!path.as_ref().contains("/../"), "{path}");
        }
    }

    #[test]
    fn commands_and_images_are_told_apart() {
        let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        assert_ne!(
            command("a", &words(&["b"])),
            command("a", &words(&["b", ""]))
        );
        assert_ne!(command("a", &words(&["bc"])), command("ab", &words(&["c"])));
        assert_eq!(
            image("localhost/api@sha256:12").as_deref(),
            Some("sha256:12")
        );
        assert_eq!(image("sha256:12").as_deref(), Some("sha256:12"));
        assert_eq!(image(""), None);
    }

    #[test]
    fn a_bundle_is_taken_only_where_its_card_belongs() {
        let (place, prefix) = (place(), Path::from("models"));
        let taken = |change: fn(&mut ModelCard)| {
            let mut card = bundle(1).card;
            place.stamp(&mut card);
            change(&mut card);
            let taken = place.takes(&card, &prefix, &place.path(&prefix));
            taken.map_err(|refusal| refusal.to_string())
        };
        fn subject(card: &mut ModelCard) -> &mut Subject {
            card.subject.as_mut().unwrap()
        }
        assert_eq!(taken(|_| {}), Ok(()));
        assert!(taken(|card| card.subject = None).is_err());
        type Change = fn(&mut ModelCard);
        let changes: [(Change, &str); 6] = [
            (|card| card.arch = "aarch64".into(), "architecture"),
            (|card| card.container = "db".into(), "container"),
            (|card| subject(card).tenant = "b".into(), "tenant"),
            (|card| subject(card).workload = "b".into(), "workload"),
            (|card| subject(card).command = "b".into(), "command"),
            (|card| subject(card).image = None, "image"),
        ];
        for (change, word) in changes {
            let refusal = taken(change).unwrap_err();
            assert!(refusal.contains(word), "{refusal}");
        }
    }
}
