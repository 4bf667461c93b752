//! Replicas that have seen a version of an image healthy say so beside its bundle.
//!
//! `IMAGE.seen/REPLICA`, an object of a line that names itself, signed as bundles are. No more are written
//! than are needed.

use futures_util::TryStreamExt as _;
use object_store::{ObjectStoreExt as _, PutMode, PutPayload, path::Path};

use super::{Failure, Saved, SharedStore, counts::Task, place::Place};

/// Objects of one version that are looked at.
const MOST_LISTED: usize = 200;
/// Bytes of one, with its signature.
const LARGEST: u64 = 4096;

impl SharedStore {
    /// Replicas that have to see a new version healthy.
    pub fn replicas(&self) -> usize {
        self.replicas
    }

    pub fn needing(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// Stores what a replica has learned while models of another version were in force: it says
    /// that it has seen this version healthy.
    pub async fn save_new_version(&self, place: &Place, file: Vec<u8>, replica: &str) -> Saved {
        let object = PutPayload::from(self.keys.seal(file.clone()));
        let saved = self
            .until_done(Task::Save, || async {
                let saved = self.save_once(place, &file, &object, None).await?;
                self.witness(place, replica).await?;
                match self.is_proven(place).await? {
                    true => Ok(saved),
                    false => Ok(Saved::Unproven),
                }
            })
            .await;
        self.count_saved(&saved);
        saved
    }

    /// Whether enough replicas have seen this version healthy.
    pub(super) async fn is_proven(&self, place: &Place) -> Result<bool, Failure> {
        Ok(self.replicas <= 1 || self.seen(place, None).await? >= self.replicas)
    }

    /// Says that `replica` has seen this version healthy, unless enough have said so.
    pub(super) async fn witness(&self, place: &Place, replica: &str) -> Result<(), Failure> {
        if self.replicas <= 1 || self.seen(place, Some(replica)).await? >= self.replicas {
            return Ok(());
        }
        let path = place.witness(&self.prefix, replica);
        let line = self.keys.seal(said(&path, &self.prefix).into_bytes());
        self.put(&path, &PutPayload::from(line), PutMode::Overwrite)
            .await?;
        Ok(())
    }

    /// Replicas that say so, as far as they matter; all are enough where `replica` is one of them.
    async fn seen(&self, place: &Place, replica: Option<&str>) -> Result<usize, Failure> {
        let folder = place.witnesses(&self.prefix);
        let mut listed = std::pin::pin!(self.store.list(Some(&folder)));
        let (mut seen, mut looked_at) = (0, 0);
        while let Some(object) = listed.try_next().await? {
            looked_at += 1;
            if looked_at > MOST_LISTED || seen >= self.replicas {
                break;
            }
            if object.size > LARGEST || !self.is_witness(&object.location).await? {
                continue;
            }
            if replica.is_some_and(|own| place.witness(&self.prefix, own) == object.location) {
                return Ok(self.replicas);
            }
            seen += 1;
        }
        Ok(seen)
    }

    async fn is_witness(&self, path: &Path) -> Result<bool, Failure> {
        let object = match self.store.get(path).await {
            Ok(got) => got.bytes().await?,
            Err(object_store::Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let line = self.keys.open(&object);
        Ok(line.is_ok_and(|line| line == said(path, &self.prefix).as_bytes()))
    }
}

/// Its place below the prefix, so that it counts nowhere else.
fn said(path: &Path, prefix: &Path) -> String {
    let place: Vec<String> = path
        .prefix_match(prefix)
        .into_iter()
        .flatten()
        .map(|part| part.as_ref().to_owned())
        .collect();
    format!("seen healthy: {}\n", place.join("/"))
}
