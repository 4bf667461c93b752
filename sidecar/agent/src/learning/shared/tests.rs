use std::path::PathBuf;

use object_store::{
    local::LocalFileSystem,
    memory::InMemory,
    throttle::{ThrottleConfig, ThrottledStore},
};
use stethos_bundle::{Subject, sample::bundle};

use super::*;

/// Two pairs of keys, as `openssl genpkey -algorithm ed25519` makes them.
const PRIVATE: [&str; 2] = [
    "MC4CAQAwBQYDK2VwBCIEIDe4ortNwFHx/lRAdluL7AxCSHxuCuheASgCFNwE70TI",
    "MC4CAQAwBQYDK2VwBCIEICqmoSvrZR4g2H3FKVZwoUhLsKk4LLCbmY/7lPfYA0QR",
];
const PUBLIC: [&str; 2] = [
    "MCowBQYDK2VwAyEA4GMZPLNyrGahcPfU5emLGasZRFWIsE/xbRDIBWcNt5U=",
    "MCowBQYDK2VwAyEAqQMTEksWJNzXgh5ACmqy6IB8Yi5ro9o1rH13uJy3kB0=",
];

pub(super) fn pem(kind: &str, base64: &str) -> String {
    format!("-----BEGIN {kind} KEY-----\n{base64}\n-----END {kind} KEY-----\n")
}

pub(super) struct KeyFiles {
    pub(super) private: [PathBuf; 2],
    pub(super) public: [PathBuf; 2],
    _folder: tempfile::TempDir,
}

impl KeyFiles {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: String, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        Self {
            private: [0, 1].map(|n| write(format!("private-{n}.pem"), pem("PRIVATE", PRIVATE[n]))),
            public: [0, 1].map(|n| write(format!("public-{n}.pem"), pem("PUBLIC", PUBLIC[n]))),
            _folder: folder,
        }
    }
}

pub(super) fn place() -> Place {
    Place {
        arch: "x86_64".to_owned(),
        container: "api".to_owned(),
        subject: Subject {
            tenant: "default".to_owned(),
            workload: "shop.api".to_owned(),
            command: "00ff".to_owned(),
            image: Some("sha256:aa".to_owned()),
        },
    }
}

fn of_image(image: &str) -> Place {
    let mut place = place();
    place.subject.image = Some(image.to_owned());
    place
}

/// The file of a bundle for [`place`].
pub(super) fn stamped(seed: u64) -> Vec<u8> {
    stamped_for(&place(), seed)
}

fn stamped_for(place: &Place, seed: u64) -> Vec<u8> {
    let mut bundle = bundle(seed);
    place.stamp(&mut bundle.card);
    bundle.write().unwrap()
}

const LIMITS: Limits = Limits {
    time: Duration::from_secs(10),
    wait: Duration::from_millis(10),
};

fn replica(objects: &Arc<impl ObjectStore>, keys: Keys) -> SharedStore {
    SharedStore::new(objects.clone(), Path::from("models"), keys, LIMITS)
}

fn seed(found: &Found) -> Option<u64> {
    match found {
        Found::Exact(taken) | Found::Older(taken) => Some(taken.bundle.card.seed),
        Found::Nothing => None,
    }
}

async fn put(objects: &impl ObjectStore, place: &Place, object: impl Into<PutPayload>) {
    let path = place.path(&Path::from("models"));
    objects.put(&path, object.into()).await.unwrap();
}

#[tokio::test]
async fn what_one_replica_saves_another_finds() {
    let objects = Arc::new(InMemory::new());
    let [first, second] = [0, 1].map(|_| replica(&objects, Keys::default()));
    assert!(matches!(second.find(&place(), true).await, Found::Nothing));
    assert!(matches!(
        first.save(&place(), stamped(1)).await,
        Saved::Saved
    ));
    let found = second.find(&place(), true).await;
    assert!(
        matches!(&found, Found::Exact(taken) if taken.file == stamped(1)),
        "{found:?}"
    );
    let again = second.save(&place(), stamped(1)).await;
    assert!(matches!(again, Saved::AlreadyThere), "{again:?}");
    let counts = second.snapshot();
    assert_eq!(
        (counts.not_found, counts.found, counts.already_there),
        (1, 1, 1)
    );
}

#[tokio::test]
async fn of_two_that_save_the_first_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    let objects = Arc::new(LocalFileSystem::new_with_prefix(folder.path()).unwrap());
    let [first, second] = [0, 1].map(|_| replica(&objects, Keys::default()));
    let (place, other) = (place(), place());
    let (one, two) = tokio::join!(
        first.save(&place, stamped(1)),
        second.save(&other, stamped(2))
    );
    let kept = seed(&first.find(&place, false).await).unwrap();
    let (won, lost) = if kept == 1 { (one, two) } else { (two, one) };
    assert!(matches!(won, Saved::Saved), "{won:?}");
    assert!(
        matches!(&lost, Saved::Other(taken) if taken.bundle.card.seed == kept),
        "{lost:?}"
    );
}

#[tokio::test]
async fn a_damaged_bundle_is_refused_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    // One replaces on condition, the other cannot.
    replaces_damaged(InMemory::new()).await;
    replaces_damaged(LocalFileSystem::new_with_prefix(folder.path()).unwrap()).await;
}

async fn replaces_damaged(objects: impl ObjectStore) {
    let objects = Arc::new(objects);
    let store = replica(&objects, Keys::default());
    let mut damaged = stamped(1);
    damaged[100] ^= 1;
    put(&*objects, &place(), damaged).await;
    assert!(matches!(store.find(&place(), true).await, Found::Nothing));
    let saved = store.save(&place(), stamped(2)).await;
    assert!(matches!(saved, Saved::Replaced), "{saved:?}");
    assert_eq!(seed(&store.find(&place(), true).await), Some(2));
    let counts = store.snapshot();
    assert_eq!((counts.damaged, counts.replaced), (2, 1));
}

#[tokio::test]
async fn what_belongs_elsewhere_or_is_too_large_is_refused() {
    let objects = Arc::new(InMemory::new());
    let store = replica(&objects, Keys::default());
    put(&*objects, &place(), stamped_for(&of_image("sha256:bb"), 1)).await;
    assert!(matches!(store.find(&place(), true).await, Found::Nothing));
    let size = LARGEST as usize + END + 1;
    put(&*objects, &place(), vec![0; size]).await;
    assert!(matches!(store.find(&place(), true).await, Found::Nothing));
    let counts = store.snapshot();
    assert_eq!((counts.foreign, counts.too_large), (1, 1));
}

#[tokio::test]
async fn a_new_version_finds_the_newest_sound_one_of_the_others() {
    let objects = Arc::new(InMemory::new());
    let store = replica(&objects, Keys::default());
    for (n, image) in ["sha256:01", "sha256:02"].iter().enumerate() {
        put(
            &*objects,
            &of_image(image),
            stamped_for(&of_image(image), n as u64),
        )
        .await;
        sleep(Duration::from_millis(2)).await;
    }
    put(&*objects, &of_image("sha256:03"), b"junk".to_vec()).await;
    let found = store.find(&place(), true).await;
    assert!(
        matches!(found, Found::Older(_)) && seed(&found) == Some(1),
        "{found:?}"
    );
    assert!(matches!(store.find(&place(), false).await, Found::Nothing));
    // Of another command nothing is taken.
    let mut other = place();
    other.subject.command = "11".to_owned();
    assert!(matches!(store.find(&other, true).await, Found::Nothing));
}

#[tokio::test]
async fn an_unsigned_bundle_gives_way_to_a_signed_one() {
    let files = KeyFiles::new();
    let objects = Arc::new(InMemory::new());
    let anyone = replica(&objects, Keys::default());
    let signing = Keys::read(Some(&files.private[0]), &files.public[..1]).unwrap();
    let signing = replica(&objects, signing);
    anyone.save(&place(), stamped(1)).await;
    assert!(matches!(signing.find(&place(), true).await, Found::Nothing));
    let saved = signing.save(&place(), stamped(2)).await;
    assert!(matches!(saved, Saved::Replaced), "{saved:?}");
    let reading = Keys::read(None, &files.public[..1]).unwrap();
    let reading = replica(&objects, reading);
    assert_eq!(seed(&reading.find(&place(), true).await), Some(2));
    assert_eq!(seed(&anyone.find(&place(), true).await), Some(2));
    assert_eq!(signing.snapshot().signature, 2);
    assert!(!reading.can_save());
}

#[tokio::test]
async fn a_slow_store_is_given_up_asked_again_and_counted() {
    let slow = ThrottleConfig {
        wait_get_per_call: Duration::from_secs(60),
        ..ThrottleConfig::default()
    };
    let objects = Arc::new(ThrottledStore::new(InMemory::new(), slow));
    let limits = Limits {
        time: Duration::from_millis(20),
        ..LIMITS
    };
    let store = SharedStore::new(
        objects.clone(),
        Path::from("models"),
        Keys::default(),
        limits,
    );
    let place = place();
    let finding = store.find(&place, true);
    let later = async {
        while store.snapshot().failures[Task::Find as usize][0] < 2 {
            sleep(Duration::from_millis(1)).await;
        }
        objects.config_mut(|config| *config = ThrottleConfig::default());
    };
    let (found, ()) = tokio::join!(finding, later);
    assert!(matches!(found, Found::Nothing), "{found:?}");
}

#[tokio::test]
async fn a_store_that_comes_back_takes_what_waits() {
    let folder = tempfile::tempdir().unwrap();
    // A file is where the folder belongs.
    let blocker = folder.path().join("models");
    std::fs::write(&blocker, "").unwrap();
    let objects = Arc::new(LocalFileSystem::new_with_prefix(folder.path()).unwrap());
    let store = replica(&objects, Keys::default());
    let place = place();
    let later = async {
        while store.snapshot().failures[Task::Save as usize][2] < 2 {
            sleep(Duration::from_millis(1)).await;
        }
        std::fs::remove_file(&blocker).unwrap();
    };
    let (saved, ()) = tokio::join!(store.save(&place, stamped(1)), later);
    assert!(matches!(saved, Saved::Saved), "{saved:?}");
}

#[tokio::test]
async fn replicas_that_are_trusted_say_once_that_a_version_is_healthy() {
    let files = KeyFiles::new();
    let objects = Arc::new(InMemory::new());
    let open = |sign: Option<usize>| {
        let sign = sign.map(|n| files.private[n].as_path());
        let keys = Keys::read(sign, &files.public[..1]).unwrap();
        SharedStore::new(objects.clone(), Path::from("models"), keys, LIMITS).needing(2)
    };
    let (trusted, stranger) = (open(Some(0)), open(Some(1)));
    let (old, new) = (place(), of_image("sha256:bb"));
    trusted.save(&old, stamped_for(&old, 1)).await;
    let file = stamped_for(&new, 2);
    let proven = |saved: Saved| !matches!(saved, Saved::Unproven);
    let save =
        async |replica: &str| proven(trusted.save_new_version(&new, file.clone(), replica).await);
    assert!(!save("one").await);
    assert!(!save("one").await);
    stranger.witness(&new, "two").await.unwrap();
    assert!(!trusted.is_proven(&new).await.unwrap());
    // What was said of another version is not said of this one.
    let said = new.witness(&trusted.prefix, "one");
    let copy = new.witness(&trusted.prefix, "three");
    objects.copy(&said, &copy).await.unwrap();
    assert!(!trusted.is_proven(&new).await.unwrap());
    let found = trusted.find(&new, false).await;
    assert!(matches!(&found, Found::Older(taken) if taken.bundle.card.seed == 1));
    assert!(save("four").await);
    let found = trusted.find(&new, false).await;
    assert!(matches!(&found, Found::Exact(taken) if taken.bundle.card.seed == 2));
}
