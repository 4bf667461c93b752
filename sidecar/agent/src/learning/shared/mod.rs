//! The store of bundles that replicas share: a folder, or S3, Google Cloud Storage or Azure.
//!
//! | module | holds |
//! | --- | --- |
//! | [`place`] | under which name a bundle lies, and whether it belongs there |
//! | [`seal`] | signatures |
//! | `witnesses` | replicas that have seen a new version healthy |
//! | `open` | a store from its configuration |
//! | [`counts`] | what was asked and what came of it |
//! | [`error`] | why a bundle is refused, why a store fails |
//!
//! Everything that is read is verified: size, signature where keys are configured, digest, and
//! whether the card names the place that it lies at. Of two replicas that store a bundle in the same
//! place the first one wins; the other takes what is there, so that all watch by the same models.

pub mod counts;
pub mod error;
mod open;
pub mod place;
pub mod seal;
#[cfg(test)]
pub(super) mod tests;
mod witnesses;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::{
    Error as ObjectError, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, UpdateVersion,
    path::Path,
};
use stethos_bundle::Bundle;
use tokio::time::{sleep, timeout};

use self::{
    counts::{Counters, StoreSnapshot, Task},
    error::LARGEST,
    place::Place,
    seal::{END, Keys},
};
pub use error::{Failure, OpenError, Refusal};

/// Objects of one folder that are looked at, and those among them that are read.
const MOST_LISTED: usize = 1000;
const MOST_READ: usize = 3;
/// Rounds of storing in which others change what is there meanwhile.
const ROUNDS: usize = 4;
/// A store that fails is asked again after this long, then twice as long each time.
const FIRST_WAIT: Duration = Duration::from_secs(2);

/// How long a store may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time for finding or saving once.
    pub time: Duration,
    /// Longest wait before another try.
    pub wait: Duration,
}

/// A verified bundle.
#[derive(Clone, Debug)]
pub struct Taken {
    pub bundle: Arc<Bundle>,
    pub id: String,
    /// The bundle's file, without signature.
    pub file: Vec<u8>,
}

/// What is there for a container.
#[derive(Debug)]
pub enum Found {
    /// Models of this very version of its image.
    Exact(Taken),
    /// Models of another version: the newest ones. Those of this version are not there, or not enough
    /// replicas have seen it healthy.
    Older(Taken),
    Nothing,
}

/// What came of saving.
#[derive(Debug)]
pub enum Saved {
    Saved,
    /// In the place of a bundle that was refused, or that was to be replaced.
    Replaced,
    /// The same bundle lies there already.
    AlreadyThere,
    /// Another replica's lies there, which counts.
    Other(Taken),
    /// It lies there, and counts once more replicas have seen this version healthy.
    Unproven,
}

/// What lies at a path.
enum Object {
    Absent,
    Good(Taken, UpdateVersion),
    Refused(UpdateVersion),
}

#[derive(Debug)]
pub struct SharedStore {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    keys: Arc<Keys>,
    limits: Limits,
    counters: Counters,
    /// Replicas that have to see a new version healthy.
    replicas: usize,
    /// By [`Task`]: it was said that it fails.
    told: [AtomicBool; 2],
}

impl SharedStore {
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path, keys: Keys, limits: Limits) -> Self {
        Self {
            store,
            prefix,
            keys: Arc::new(keys),
            limits,
            counters: Counters::default(),
            replicas: 1,
            told: Default::default(),
        }
    }

    pub fn snapshot(&self) -> StoreSnapshot {
        self.counters.snapshot()
    }

    /// False where replicas would refuse what this one stores: it reads only.
    pub fn can_save(&self) -> bool {
        self.keys.can_save()
    }

    /// Looks for a bundle until the store answers. `older`: one of another version of the image will
    /// do.
    pub async fn find(&self, place: &Place, older: bool) -> Found {
        let found = self
            .until_done(Task::Find, || self.find_once(place, older))
            .await;
        let counter = match &found {
            Found::Exact(_) => &self.counters.found,
            Found::Older(_) => &self.counters.older,
            Found::Nothing => &self.counters.not_found,
        };
        count(counter);
        found
    }

    /// Stores a bundle's file, which is stamped for `place`, until the store answers.
    pub async fn save(&self, place: &Place, file: Vec<u8>) -> Saved {
        self.save_over(place, file, None).await
    }

    /// The same, also in the place of the model with this id.
    pub async fn save_over(&self, place: &Place, file: Vec<u8>, over: Option<&str>) -> Saved {
        let object = PutPayload::from(self.keys.seal(file.clone()));
        let saved = self
            .until_done(Task::Save, || self.save_once(place, &file, &object, over))
            .await;
        self.count_saved(&saved);
        saved
    }

    fn count_saved(&self, saved: &Saved) {
        count(match saved {
            Saved::Saved | Saved::Unproven => &self.counters.saved,
            Saved::Replaced => &self.counters.replaced,
            Saved::AlreadyThere | Saved::Other(_) => &self.counters.already_there,
        });
    }

    async fn until_done<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        task: Task,
        attempt: impl Fn() -> F,
    ) -> T {
        let mut waits = ExponentialBuilder::default()
            .with_min_delay(FIRST_WAIT.min(self.limits.wait))
            .with_max_delay(self.limits.wait)
            .with_jitter()
            .without_max_times()
            .build();
        loop {
            let late = Failure::TooLate(self.limits.time);
            let done = timeout(self.limits.time, attempt()).await;
            let told = &self.told[task as usize];
            match done.unwrap_or(Err(late)) {
                Ok(done) => {
                    if told.swap(false, Relaxed) {
                        tracing::info!(task = task.name(), "the model store serves again");
                    }
                    return done;
                }
                Err(failure) => {
                    self.counters.failed(task, &failure);
                    if told.swap(true, Relaxed) {
                        tracing::debug!(task = task.name(), %failure, "the model store still fails");
                    } else {
                        tracing::warn!(
                            task = task.name(), %failure,
                            "the model store fails; what is learned here serves, and it is asked again"
                        );
                    }
                }
            }
            sleep(waits.next().unwrap_or(self.limits.wait)).await;
        }
    }

    async fn find_once(&self, place: &Place, older: bool) -> Result<Found, Failure> {
        let own = self.read(place, &place.path(&self.prefix)).await?;
        let proven = match own {
            Object::Good(..) => self.is_proven(place).await?,
            _ => false,
        };
        let other = match proven || !(older || matches!(own, Object::Good(..))) {
            true => None,
            false => self.newest_other(place).await?,
        };
        Ok(match (own, other) {
            (_, Some(taken)) => Found::Older(taken),
            // Without another version nothing has to be proven.
            (Object::Good(taken, _), None) => Found::Exact(taken),
            (_, None) => Found::Nothing,
        })
    }

    async fn newest_other(&self, place: &Place) -> Result<Option<Taken>, Failure> {
        for path in self.others(place).await? {
            if let Object::Good(taken, _) = self.read(place, &path).await? {
                return Ok(Some(taken));
            }
        }
        Ok(None)
    }

    /// The newest bundles of other versions of the image.
    async fn others(&self, place: &Place) -> Result<Vec<Path>, Failure> {
        let own = place.path(&self.prefix);
        let mut others: Vec<_> = self
            .store
            .list(Some(&place.folder(&self.prefix)))
            .take(MOST_LISTED)
            .try_filter(|object| {
                let other = Place::is_bundle(&object.location) && object.location != own;
                std::future::ready(other)
            })
            .try_collect()
            .await?;
        others.sort_by_key(|object| std::cmp::Reverse(object.last_modified));
        others.truncate(MOST_READ);
        Ok(others.into_iter().map(|object| object.location).collect())
    }

    async fn save_once(
        &self,
        place: &Place,
        file: &[u8],
        object: &PutPayload,
        over: Option<&str>,
    ) -> Result<Saved, Failure> {
        let path = place.path(&self.prefix);
        for _ in 0..ROUNDS {
            let conditional = match self.put(&path, object, PutMode::Create).await {
                Ok(()) => return Ok(Saved::Saved),
                Err(ObjectError::AlreadyExists { .. }) => true,
                Err(ObjectError::NotImplemented { .. }) => false,
                Err(error) => return Err(error.into()),
            };
            let version = match self.read(place, &path).await? {
                Object::Good(taken, _) if taken.file == file => return Ok(Saved::AlreadyThere),
                Object::Good(taken, version) if over == Some(&*taken.id) => version,
                Object::Good(taken, _) => return Ok(Saved::Other(taken)),
                // It went away meanwhile.
                Object::Absent if conditional => continue,
                Object::Absent => {
                    self.put(&path, object, PutMode::Overwrite).await?;
                    return Ok(Saved::Saved);
                }
                Object::Refused(version) => version,
            };
            match self.replace(&path, object, version).await {
                Ok(()) => return self.replaced(place, &path, file).await,
                Err(ObjectError::Precondition { .. } | ObjectError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::Contended)
    }

    /// Replaces what lies there, and nothing else where the store can tell.
    async fn replace(
        &self,
        path: &Path,
        object: &PutPayload,
        version: UpdateVersion,
    ) -> object_store::Result<()> {
        if version.e_tag.is_some() || version.version.is_some() {
            let replaced = self.put(path, object, PutMode::Update(version)).await;
            if !matches!(replaced, Err(ObjectError::NotImplemented { .. })) {
                return replaced;
            }
        }
        self.put(path, object, PutMode::Overwrite).await
    }

    /// Another replica may have replaced the same: the one that lies there counts.
    async fn replaced(&self, place: &Place, path: &Path, file: &[u8]) -> Result<Saved, Failure> {
        match self.read(place, path).await? {
            Object::Good(taken, _) if taken.file != file => Ok(Saved::Other(taken)),
            _ => Ok(Saved::Replaced),
        }
    }

    async fn put(
        &self,
        path: &Path,
        object: &PutPayload,
        mode: PutMode,
    ) -> object_store::Result<()> {
        let put = self.store.put_opts(path, object.clone(), mode.into());
        put.await.map(drop)
    }

    async fn read(&self, place: &Place, path: &Path) -> Result<Object, Failure> {
        let got = match self.store.get(path).await {
            Ok(got) => got,
            Err(ObjectError::NotFound { .. }) => return Ok(Object::Absent),
            Err(error) => return Err(error.into()),
        };
        let version = UpdateVersion {
            e_tag: got.meta.e_tag.clone(),
            version: got.meta.version.clone(),
        };
        let size = got.meta.size;
        let taken = if size > LARGEST + END as u64 {
            Err(Refusal::TooLarge(size))
        } else {
            let object = got.bytes().await?;
            let (keys, place) = (self.keys.clone(), place.clone());
            let (prefix, path) = (self.prefix.clone(), path.clone());
            // A large bundle takes a while to check.
            tokio::task::spawn_blocking(move || verify(&object, &keys, &place, &prefix, &path))
                .await?
        };
        Ok(match taken {
            Ok(taken) => Object::Good(taken, version),
            Err(refusal) => {
                self.counters.refused(refusal.cause());
                tracing::warn!(bundle = %path, %refusal, "a stored bundle is refused");
                Object::Refused(version)
            }
        })
    }
}

fn verify(
    object: &[u8],
    keys: &Keys,
    place: &Place,
    prefix: &Path,
    path: &Path,
) -> Result<Taken, Refusal> {
    let file = keys.open(object)?;
    let bundle = Bundle::read(file, path.as_ref())?;
    place.takes(&bundle.card, prefix, path)?;
    Ok(Taken {
        id: bundle.id(),
        bundle: Arc::new(bundle),
        file: file.to_vec(),
    })
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
