use std::{path::Path, sync::Arc, time::Duration};

use object_store::{
    ObjectStore,
    memory::InMemory,
    throttle::{ThrottleConfig, ThrottledStore},
};
use stethos_bundle::sample::bundle;

use super::{
    progress::Bounds,
    shared::{Limits, SharedStore, seal::Keys},
    *,
};
use crate::record::{ContainerInfo, Tick};

mod accepting;
mod resuming;

const SECOND: Nanos = 1_000_000_000;

fn learning(state_dir: &Path) -> Learning {
    let settings = Settings {
        bounds: Bounds {
            unseen: 0.01,
            min_duration: Duration::from_secs(60),
            min_calls: 1,
            ceiling: Duration::from_secs(600),
        },
        state_dir: state_dir.to_owned(),
        time_limit: Duration::from_secs(1),
        nice: 0,
        memory: 1 << 30,
        tenant: "default".to_owned(),
        replica: state_dir.display().to_string(),
        workload: Workload::Found(|_, process| format!("shop.{}", process.executable)),
    };
    let header = Header {
        arch: "x86_64".to_owned(),
        kernel: "6.1.0".to_owned(),
        unix_offset_ns: 0,
        capture_mode: "broker".to_owned(),
        target: "self-pod".to_owned(),
    };
    Learning::new(settings, &header).unwrap()
}

fn container(name: &str) -> Record {
    container_of_image(name, None)
}

fn container_of_image(name: &str, image_digest: Option<&str>) -> Record {
    Record::Container(ContainerInfo {
        at_ns: SECOND,
        container: 0,
        name: name.to_owned(),
        id: None,
        cgroup_path: String::new(),
        image: None,
        image_digest: image_digest.map(str::to_owned),
    })
}

fn process() -> Record {
    Record::Process(ProcessInfo {
        at_ns: SECOND,
        container: 0,
        pid: 10,
        executable: "serve".to_owned(),
        command_line: vec!["serve".to_owned()],
        environment: vec![],
        listens: vec![],
    })
}

/// What a second later has changed.
fn tick(learning: &mut Learning, at_ns: Nanos) -> Vec<Change> {
    let tick = Tick {
        at_ns,
        accounts: vec![],
        skipped_recursion: 0,
    };
    assert!(learning.on_record(&Record::Tick(tick)).is_none());
    learning.on_tick()
}

fn key() -> Key {
    Key::new("api", "x86_64", "serve", &["serve".to_owned()])
}

fn is_watching(change: Option<&Change>, wanted: &Bundle) -> bool {
    matches!(change, Some(Change::Watching { bundle, .. }) if bundle.card.seed == wanted.card.seed)
}

#[test]
fn a_bundle_is_found_by_the_name_that_came_late() {
    let folder = tempfile::tempdir().unwrap();
    let stored = bundle(1);
    let mut learning = learning(folder.path());
    learning
        .store
        .save(&key(), &stored.write().unwrap())
        .unwrap();
    assert!(learning.on_record(&container("cgroup-7")).is_none());
    assert!(tick(&mut learning, 9 * SECOND).is_empty());
    assert!(learning.on_record(&container("api")).is_none());
    let change = learning.on_record(&process());
    assert!(is_watching(change.as_ref(), &stored), "{change:?}");
}

#[test]
fn what_is_not_named_for_long_is_learned_until_its_bundle_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let stored = bundle(1);
    let mut learning = learning(folder.path());
    learning
        .store
        .save(&key(), &stored.write().unwrap())
        .unwrap();
    learning.on_record(&container("cgroup-7"));
    let changes = tick(&mut learning, 11 * SECOND);
    assert!(matches!(
        changes[..],
        [Change::Learning { container: 0, .. }]
    ));
    assert!(tick(&mut learning, 12 * SECOND).is_empty());
    learning.on_record(&container("api"));
    let change = learning.on_record(&process());
    assert!(is_watching(change.as_ref(), &stored), "{change:?}");
    // What a training that ran meanwhile gives is of no use any more.
    let late = learning.trained(0, Ok(bundle(2).write().unwrap()));
    assert!(late.is_none(), "{late:?}");
}

#[test]
fn models_of_a_container_without_a_name_are_kept_under_the_one_that_comes() {
    let folder = tempfile::tempdir().unwrap();
    let trained = bundle(3);
    let mut learning = learning(folder.path());
    learning.on_record(&container("cgroup-7"));
    tick(&mut learning, 11 * SECOND);
    let phase = &mut learning.containers.get_mut(&0).unwrap().phase;
    assert!(phase.start_training().is_some());
    let change = learning.trained(0, Ok(trained.write().unwrap()));
    assert!(is_watching(change.as_ref(), &trained), "{change:?}");
    assert!(learning.store.load(&key()).unwrap().is_none());
    learning.on_record(&container("api"));
    let change = learning.on_record(&process());
    assert!(is_watching(change.as_ref(), &trained), "{change:?}");
    let kept = learning.store.load(&key()).unwrap().unwrap();
    assert_eq!(kept.card.seed, trained.card.seed);
}

/// A replica with a state directory of its own.
struct Replica {
    learning: Learning,
    at_ns: Nanos,
    _state: tempfile::TempDir,
}

impl Replica {
    fn new(objects: &Arc<impl ObjectStore>) -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut learning = learning(state.path());
        learning.share(store(objects));
        Self {
            learning,
            at_ns: SECOND,
            _state: state,
        }
    }

    fn begin(&mut self, image: &str) -> Option<Change> {
        let container = container_of_image("api", Some(image));
        assert!(self.learning.on_record(&container).is_none());
        self.learning.on_record(&process())
    }

    /// Has been seen enough and trained.
    fn train(&mut self, seed: u64) -> Option<Change> {
        let phase = &mut self.learning.containers.get_mut(&0).unwrap().phase;
        assert!(phase.start_training().is_some());
        self.learning.trained(0, Ok(bundle(seed).write().unwrap()))
    }

    /// What the next answer changes.
    async fn change(&mut self) -> Change {
        for _ in 0..2000 {
            self.at_ns += SECOND;
            if let Some(change) = tick(&mut self.learning, self.at_ns).pop() {
                return change;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("nothing changed");
    }

    fn model(&self) -> Option<String> {
        self.learning.containers[&0].model.clone()
    }
}

fn store(objects: &Arc<impl ObjectStore>) -> Arc<SharedStore> {
    let limits = Limits {
        time: Duration::from_secs(10),
        wait: Duration::from_millis(10),
    };
    let prefix = object_store::path::Path::default();
    let store = SharedStore::new(objects.clone(), prefix, Keys::default(), limits);
    Arc::new(store)
}

const SETTLES: Duration = Duration::from_secs(10);

fn is_from(change: &Change, wanted: Source, seed: u64) -> bool {
    matches!(change, Change::Watching { source, bundle, .. }
        if *source == wanted && bundle.card.seed == seed)
}

#[tokio::test]
async fn a_replica_watches_by_what_another_has_learned() {
    let objects = Arc::new(InMemory::new());
    let [mut first, mut second, mut third] = [0; 3].map(|_| Replica::new(&objects));
    // The second one learns already when the first one is done.
    let change = second.begin("sha256:aa");
    assert!(
        matches!(
            change,
            Some(Change::Learning {
                meanwhile: None,
                ..
            })
        ),
        "{change:?}"
    );
    first.begin("sha256:aa");
    assert!(is_from(&first.train(1).unwrap(), Source::Trained, 1));
    first.learning.settle(SETTLES).await;
    for replica in [&mut second, &mut third] {
        if replica.learning.containers.is_empty() {
            replica.begin("sha256:aa");
        }
        let change = replica.change().await;
        assert!(is_from(&change, Source::Store, 1), "{change:?}");
        assert_eq!(replica.model(), first.model());
    }
    // It is there after a restart, too, without the store.
    let kept = third.learning.store.load(&key()).unwrap().unwrap();
    assert_eq!(kept.card.seed, 1);
}

#[tokio::test]
async fn replicas_that_learned_at_the_same_time_agree() {
    let objects = Arc::new(InMemory::new());
    let [mut first, mut second] = [1, 2].map(|seed| {
        let mut replica = Replica::new(&objects);
        replica.begin("sha256:aa");
        assert!(is_from(
            &replica.train(seed).unwrap(),
            Source::Trained,
            seed
        ));
        replica
    });
    assert_ne!(first.model(), second.model());
    let change = tokio::select! {
        change = first.change() => change,
        change = second.change() => change,
    };
    assert!(
        matches!(
            change,
            Change::Watching {
                source: Source::Store,
                ..
            }
        ),
        "{change:?}"
    );
    assert_eq!(first.model(), second.model());
}

#[tokio::test]
async fn a_new_version_starts_from_the_old_one_until_its_own_is_learned() {
    let objects = Arc::new(InMemory::new());
    let [mut old, mut new] = [0; 2].map(|_| Replica::new(&objects));
    old.begin("sha256:aa");
    old.train(1);
    old.learning.settle(SETTLES).await;
    new.begin("sha256:bb");
    let change = new.change().await;
    let Change::Learning {
        meanwhile: Some(older),
        ..
    } = change
    else {
        panic!("{change:?}");
    };
    assert_eq!(Some(&older.id), old.model().as_ref());
    let limits = (&older.bundle.thresholds, bundle(1).thresholds.widened());
    assert_eq!(limits.0, &limits.1);
    assert_eq!(
        new.learning.progress().next().unwrap().2,
        old.model().as_deref()
    );
    assert!(is_from(&new.train(2).unwrap(), Source::Trained, 2));
    new.learning.settle(SETTLES).await;
    assert_eq!(new.learning.shared().unwrap().snapshot().saved, 1);
    // The other replica goes over to the new image, and finds its models beside those of the old.
    let mut updated = Replica::new(&objects);
    updated.begin("sha256:bb");
    assert!(is_from(&updated.change().await, Source::Store, 2));
}

#[tokio::test]
async fn a_new_version_starts_from_what_the_state_directory_has_of_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let begin = |image| {
        let mut learning = learning(folder.path());
        learning.on_record(&container_of_image("api", image));
        let change = learning.on_record(&process());
        (learning, change)
    };
    let (mut old, _) = begin(Some("sha256:aa"));
    let phase = &mut old.containers.get_mut(&0).unwrap().phase;
    assert!(phase.start_training().is_some());
    old.trained(0, Ok(bundle(1).write().unwrap()));
    let older = |change: Option<Change>| match change {
        Some(Change::Learning { meanwhile, .. }) => meanwhile.is_some(),
        Some(change) if is_from(&change, Source::StateDirectory, 1) => false,
        other => panic!("{other:?}"),
    };
    assert!(!older(begin(Some("sha256:aa")).1));
    assert!(older(begin(Some("sha256:bb")).1));
    // Where the digest is not known now, it is taken for the same.
    assert!(!older(begin(None).1));
}

#[tokio::test]
async fn what_was_learned_without_the_store_goes_there_at_the_next_start() {
    let objects = Arc::new(InMemory::new());
    let mut replica = Replica::new(&objects);
    replica.learning.sharing = None;
    replica.begin("sha256:aa");
    replica.train(1);
    let mut again = learning(&replica.learning.settings.state_dir);
    again.share(store(&objects));
    again.on_record(&container_of_image("api", Some("sha256:aa")));
    let change = again.on_record(&process()).unwrap();
    assert!(is_from(&change, Source::StateDirectory, 1), "{change:?}");
    let mut other = Replica::new(&objects);
    other.begin("sha256:aa");
    for second in 2..2000 {
        tick(&mut again, second * SECOND);
        if again.shared().unwrap().snapshot().saved == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(is_from(&other.change().await, Source::Store, 1));
}

#[tokio::test]
async fn a_store_that_hangs_holds_nothing_up() {
    let hour = Duration::from_secs(3600);
    let hanging = ThrottleConfig {
        wait_get_per_call: hour,
        wait_put_per_call: hour,
        ..ThrottleConfig::default()
    };
    let objects = Arc::new(ThrottledStore::new(InMemory::new(), hanging));
    let mut replica = Replica::new(&objects);
    let change = replica.begin("sha256:aa");
    assert!(
        matches!(change, Some(Change::Learning { .. })),
        "{change:?}"
    );
    tick(&mut replica.learning, 2 * SECOND);
    assert!(is_from(&replica.train(1).unwrap(), Source::Trained, 1));
    tick(&mut replica.learning, 3 * SECOND);
    replica.learning.settle(Duration::from_millis(10)).await;
    assert!(replica.learning.store.load(&key()).unwrap().is_some());
}
