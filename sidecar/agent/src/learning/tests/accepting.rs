//! What is accepted: kept, learned anew, and shared.

use stethos_patterns::{Role, Token, WindowCall};

use super::*;
use crate::accepted::{Accepted, Thing, Took};

fn known() -> Accepted {
    let mut accepted = Accepted::default();
    accepted.add(Thing::OutOfMemory, Took::default());
    accepted
}

fn and_learned() -> Accepted {
    known().merged(&Accepted::relearning()).unwrap()
}

fn again(replica: &Replica) -> (Learning, Option<Change>) {
    let mut learning = learning(&replica.learning.settings.state_dir);
    learning.on_record(&container_of_image("api", Some("sha256:aa")));
    let change = learning.on_record(&process());
    (learning, change)
}

fn watching(objects: &Arc<InMemory>, seed: u64) -> Replica {
    let mut replica = Replica::new(objects);
    replica.begin("sha256:aa");
    replica.train(seed);
    replica
}

fn trouble(second: u64, confirmed: bool) -> BTreeMap<ContainerIndex, Trouble> {
    let trouble = Trouble {
        since_ns: second * SECOND,
        confirmed,
    };
    BTreeMap::from([(0, trouble)])
}

fn window(at_ns: Nanos) -> Window {
    let call = WindowCall {
        token: Token::new(39, 0),
        role: Role::None,
        fd: -1,
        ret: 0,
        enter_ns: at_ns,
        duration_ns: 0,
    };
    Window {
        container: 0,
        pid: 10,
        tid: 10,
        sequence: 0,
        weight: 1,
        whole: true,
        calls: vec![call; 8],
    }
}

#[tokio::test]
async fn what_is_accepted_is_there_after_a_restart() {
    let objects = Arc::new(InMemory::new());
    let mut replica = watching(&objects, 1);
    let accepting = replica.learning.accept(0, known());
    assert!(accepting.change.is_none() && accepting.unkept.is_none());
    let (learning, change) = again(&replica);
    assert!(is_from(&change.unwrap(), Source::StateDirectory, 1));
    assert_eq!(learning.accepted(0), known());
    // For another command it is not.
    let mut other = learning;
    other.containers.clear();
    other.on_record(&container("other"));
    other.on_record(&process());
    assert_eq!(other.accepted(0), Accepted::default());
}

#[tokio::test]
async fn a_damaged_file_is_ignored_and_the_models_are_used() {
    let objects = Arc::new(InMemory::new());
    let mut replica = watching(&objects, 1);
    replica.learning.accept(0, known());
    let path = replica.learning.store.kept_path(&key());
    std::fs::write(path, "{").unwrap();
    let (learning, change) = again(&replica);
    assert!(is_from(&change.unwrap(), Source::StateDirectory, 1));
    assert_eq!(learning.accepted(0), Accepted::default());
}

#[tokio::test]
async fn a_new_learning_goes_on_after_a_restart_and_its_models_stay() {
    let objects = Arc::new(InMemory::new());
    let mut replica = watching(&objects, 1);
    let present = replica.model().unwrap();
    let change = replica.learning.accept(0, and_learned()).change;
    assert!(
        matches!(&change, Some(Change::Relearning { id, bundle: None, .. }) if *id == present),
        "{change:?}"
    );
    let (mut learning, change) = again(&replica);
    let Some(Change::Relearning {
        id,
        bundle: Some(_),
        ..
    }) = change
    else {
        panic!("{change:?}");
    };
    assert_eq!(id, present);
    assert!(learning.accepted(0).relearning);
    let phase = &mut learning.containers.get_mut(&0).unwrap().phase;
    assert!(phase.start_training().is_some());
    let change = learning.trained(0, Ok(bundle(2).write().unwrap()));
    assert!(is_from(&change.unwrap(), Source::Trained, 2));
    assert_eq!(learning.accepted(0), known());
    drop(learning);
    let (learning, change) = again(&replica);
    assert!(is_from(&change.unwrap(), Source::StateDirectory, 2));
    assert_eq!(learning.accepted(0), known());
}

#[tokio::test]
async fn what_was_learned_anew_replaces_what_it_began_from_in_the_store() {
    let objects = Arc::new(InMemory::new());
    let mut first = watching(&objects, 1);
    first.learning.settle(SETTLES).await;
    first.learning.take_answers();
    let mut second = Replica::new(&objects);
    second.begin("sha256:aa");
    assert!(is_from(&second.change().await, Source::Store, 1));

    first.learning.accept(0, and_learned());
    // What lies in the store is no reason to end the new learning.
    first.learning.look(0);
    for second in 0..50 {
        assert!(tick(&mut first.learning, first.at_ns + second * SECOND).is_empty());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(is_from(&first.train(2).unwrap(), Source::Trained, 2));
    for second in 50..2000 {
        let changes = tick(&mut first.learning, first.at_ns + second * SECOND);
        assert!(changes.is_empty(), "{changes:?}");
        if first.learning.containers[&0].kept.supersedes.is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(first.learning.shared().unwrap().snapshot().replaced, 1);

    // The other one takes it at its next start, and a third one at its first.
    let (mut second, change) = again(&second);
    assert!(is_from(&change.unwrap(), Source::StateDirectory, 1));
    second.share(store(&objects));
    second.look(0);
    let mut third = Replica::new(&objects);
    third.begin("sha256:aa");
    assert!(is_from(&third.change().await, Source::Store, 2));
    let mut found = None;
    for at in 2..2000 {
        found = tick(&mut second, at * SECOND).pop();
        if found.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(is_from(&found.unwrap(), Source::Store, 2));
}

#[tokio::test]
async fn what_was_learned_anew_without_the_store_replaces_it_at_the_next_start() {
    let objects = Arc::new(InMemory::new());
    let mut replica = watching(&objects, 1);
    replica.learning.settle(SETTLES).await;
    replica.learning.take_answers();
    replica.learning.sharing = None;
    replica.learning.accept(0, and_learned());
    replica.train(2);
    let (mut learning, change) = again(&replica);
    assert!(is_from(&change.unwrap(), Source::StateDirectory, 2));
    learning.share(store(&objects));
    learning.look(0);
    for second in 2..2000 {
        let changes = tick(&mut learning, second * SECOND);
        assert!(changes.is_empty(), "{changes:?}");
        if learning.containers[&0].kept.supersedes.is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut other = Replica::new(&objects);
    other.begin("sha256:aa");
    assert!(is_from(&other.change().await, Source::Store, 2));
}

#[tokio::test]
async fn nothing_is_learned_while_an_incident_is_open() {
    let objects = Arc::new(InMemory::new());
    let mut replica = Replica::new(&objects);
    replica.begin("sha256:aa");
    let learning = &mut replica.learning;
    let calls = |learning: &Learning| learning.progress().next().map(|(_, seen, _)| seen.calls());
    learning.on_window(&window(2 * SECOND));
    tick(learning, 100 * SECOND);
    learning.on_incidents(&trouble(90, false));
    learning.on_window(&window(100 * SECOND));
    assert_eq!(calls(learning), Some(8));
    // Long enough seen to be trained, but for the incident.
    tick(learning, 700 * SECOND);
    let container = &mut learning.containers.get_mut(&0).unwrap();
    assert!(container.due(700 * SECOND).is_none());
    learning.on_incidents(&BTreeMap::new());
    let container = &mut learning.containers.get_mut(&0).unwrap();
    assert!(container.due(700 * SECOND).is_some());
    assert_eq!(container.held.spans(), [(90 * SECOND, 700 * SECOND)]);
    learning.on_window(&window(701 * SECOND));
    assert_eq!(calls(learning), Some(16));
}

#[tokio::test]
async fn a_training_that_a_fault_has_spoilt_is_put_off() {
    let objects = Arc::new(InMemory::new());
    let mut replica = Replica::new(&objects);
    replica.begin("sha256:aa");
    let learning = &mut replica.learning;
    tick(learning, 100 * SECOND);
    let container = learning.containers.get_mut(&0).unwrap();
    container.phase.start_training().unwrap();
    container.training_ns = 100 * SECOND;
    let training = learning.trainings.spawn(std::future::pending());
    learning.running.insert(0, training);
    tick(learning, 101 * SECOND);
    learning.on_incidents(&trouble(101, false));
    assert!(
        learning.running.contains_key(&0),
        "it began before the fault"
    );
    learning.on_incidents(&trouble(99, false));
    assert!(learning.running.is_empty());
    assert!(learning.containers[&0].phase.is_training());
}

/// Shares through a store that wants two replicas.
fn of_two(objects: &Arc<InMemory>, image: &str) -> Replica {
    let mut replica = Replica::new(objects);
    let store = Arc::into_inner(store(objects)).unwrap();
    replica.learning.share(Arc::new(store.needing(2)));
    replica.begin(image);
    replica
}

fn is_older(change: &Change) -> bool {
    let Change::Learning { meanwhile, .. } = change else {
        return false;
    };
    meanwhile.is_some()
}

#[tokio::test]
async fn a_new_version_counts_once_two_replicas_have_seen_it_healthy() {
    let objects = Arc::new(InMemory::new());
    let mut old = of_two(&objects, "sha256:aa");
    // Where there is no older version, one is enough.
    assert!(is_from(&old.train(1).unwrap(), Source::Trained, 1));
    old.learning.settle(SETTLES).await;

    let mut first = of_two(&objects, "sha256:bb");
    assert!(is_older(&first.change().await));
    let change = first.train(2).unwrap();
    assert!(matches!(change, Change::Proving { .. }), "{change:?}");
    assert_eq!(first.model(), old.model());
    first.learning.settle(SETTLES).await;
    assert_eq!(first.learning.shared().unwrap().snapshot().saved, 1);
    // What is there does not count yet, not even for itself after a restart.
    let mut second = of_two(&objects, "sha256:bb");
    assert!(is_older(&second.change().await));
    for _ in 0..100 {
        first.at_ns += SECOND;
        assert!(tick(&mut first.learning, first.at_ns).is_empty());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let change = second.train(3).unwrap();
    assert!(matches!(change, Change::Proving { .. }), "{change:?}");
    for replica in [&mut second, &mut first] {
        let change = replica.change().await;
        assert!(is_from(&change, Source::Store, 2), "{change:?}");
    }
    let mut third = of_two(&objects, "sha256:bb");
    assert!(is_from(&third.change().await, Source::Store, 2));
}

#[tokio::test]
async fn a_replica_that_saw_a_fault_says_nothing_and_learns_again() {
    let objects = Arc::new(InMemory::new());
    let mut old = of_two(&objects, "sha256:aa");
    old.train(1);
    old.learning.settle(SETTLES).await;
    let mut first = of_two(&objects, "sha256:bb");
    assert!(is_older(&first.change().await));
    first.learning.on_incidents(&trouble(1, true));
    first.learning.on_incidents(&BTreeMap::new());
    let change = first.train(2).unwrap();
    assert!(
        matches!(
            change,
            Change::Learning {
                meanwhile: None,
                ..
            }
        ),
        "{change:?}"
    );
    first.learning.settle(SETTLES).await;
    assert_eq!(first.learning.shared().unwrap().snapshot().saved, 0);
    // A fault that is only suspected does not count.
    first.learning.on_incidents(&trouble(1, false));
    first.learning.on_incidents(&BTreeMap::new());
    let change = first.train(2).unwrap();
    assert!(matches!(change, Change::Proving { .. }), "{change:?}");
}
