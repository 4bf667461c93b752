//! Models that replicas share through a real S3 server.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step that fails ends the test"
)]

use std::{fs, path::Path, process::Command, sync::Arc, time::Duration};

use stethos::{
    config::StoreConfig,
    learning::shared::{Found, Saved, SharedStore, place::Place},
};
use stethos_bundle::{Bundle, Subject};
use stethos_tests::{
    asking::Asking,
    s3::{BUCKET, S3Server},
    sidecar::Sidecar,
    skip::{Need, kernel_or_skip, skip},
};

fn server(test: &str) -> Option<S3Server> {
    let Some(server) = S3Server::start() else {
        skip(
            Need::Tool,
            test,
            "no S3 server: STETHOS_S3_SERVER is not set",
        );
        return None;
    };
    Some(server.unwrap())
}

fn url() -> String {
    format!("s3://{BUCKET}/shop")
}

fn open(server: &S3Server, change: impl FnOnce(&mut StoreConfig)) -> Arc<SharedStore> {
    let mut config = StoreConfig {
        url: url(),
        ..StoreConfig::default()
    };
    change(&mut config);
    let store = SharedStore::open(&config, server.variables().into_iter());
    store.unwrap().unwrap()
}

fn place(image: &str) -> Place {
    Place {
        arch: "x86_64".to_owned(),
        container: "api".to_owned(),
        subject: Subject {
            tenant: "default".to_owned(),
            workload: "shop.api ünd mehr".to_owned(),
            command: "00ff".to_owned(),
            image: Some(image.to_owned()),
        },
    }
}

/// The file of a bundle for `place`; `seed` tells it from others.
fn stamped(place: &Place, seed: u64) -> Vec<u8> {
    let mut bundle = stethos_bundle::sample::bundle(seed);
    place.stamp(&mut bundle.card);
    bundle.write().unwrap()
}

fn seed(bundle: &Bundle) -> u64 {
    bundle.card.seed
}

#[tokio::test]
async fn replicas_share_through_s3_and_the_first_one_wins() {
    let Some(server) = server("replicas_share_through_s3_and_the_first_one_wins") else {
        return;
    };
    let (first, second) = (open(&server, |_| {}), open(&server, |_| {}));
    let (old, new) = (place("sha256:aa"), place("sha256:bb"));
    assert!(matches!(first.find(&old, true).await, Found::Nothing));
    let (one, two) = tokio::join!(
        first.save(&old, stamped(&old, 1)),
        second.save(&old, stamped(&old, 2)),
    );
    let Found::Exact(kept) = first.find(&old, true).await else {
        panic!("nothing is there");
    };
    let (won, lost) = match seed(&kept.bundle) {
        1 => (one, two),
        _ => (two, one),
    };
    assert!(matches!(won, Saved::Saved), "{won:?}");
    assert!(
        matches!(&lost, Saved::Other(taken) if taken.id == kept.id),
        "{lost:?}"
    );
    assert_eq!(server.objects().unwrap().len(), 1);
    let older = second.find(&new, true).await;
    assert!(
        matches!(&older, Found::Older(taken) if taken.id == kept.id),
        "{older:?}"
    );
}

#[tokio::test]
async fn a_damaged_object_in_s3_is_replaced_once() {
    let Some(server) = server("a_damaged_object_in_s3_is_replaced_once") else {
        return;
    };
    let place = place("sha256:aa");
    let (first, second) = (open(&server, |_| {}), open(&server, |_| {}));
    first.save(&place, stamped(&place, 1)).await;
    for object in server.objects().unwrap() {
        let mut damaged = fs::read(&object).unwrap();
        damaged[100] ^= 1;
        fs::write(&object, damaged).unwrap();
    }
    assert!(matches!(first.find(&place, true).await, Found::Nothing));
    assert_eq!(first.snapshot().damaged, 1);
    let (one, two) = tokio::join!(
        first.save(&place, stamped(&place, 2)),
        second.save(&place, stamped(&place, 3)),
    );
    let replaced = [&one, &two]
        .iter()
        .filter(|saved| matches!(saved, Saved::Replaced))
        .count();
    assert_eq!(replaced, 1, "{one:?} {two:?}");
}

#[tokio::test]
async fn wrong_credentials_are_counted_as_denied() {
    let Some(server) = server("wrong_credentials_are_counted_as_denied") else {
        return;
    };
    let config = StoreConfig {
        url: url(),
        ..StoreConfig::default()
    };
    let variables = server.variables().map(|(name, value)| {
        let wrong = name == "AWS_SECRET_ACCESS_KEY";
        (name, if wrong { "wrong".to_owned() } else { value })
    });
    let store = SharedStore::open(&config, variables.into_iter())
        .unwrap()
        .unwrap();
    let place = place("sha256:aa");
    let found = tokio::time::timeout(Duration::from_secs(2), store.find(&place, true)).await;
    assert!(found.is_err(), "{found:?}");
    assert!(
        store.snapshot().failures[0][1] > 0,
        "{:?}",
        store.snapshot()
    );
}

fn watch(asking: &Asking, folder: &Path, name: &str, set: impl FnOnce(&mut Command)) -> Sidecar {
    let (state, log) = (folder.join(name), folder.join(format!("{name}.log")));
    Sidecar::start(&asking.outside, &asking.pod, &state, &log, |command| {
        command
            .env("STETHOS_EXPORT_OTLP", "false")
            .env("STETHOS_LEARNING_MIN_DURATION", "3s");
        set(command);
    })
    .unwrap()
}

#[test]
fn the_second_replica_watches_at_once() {
    let test = "the_second_replica_watches_at_once";
    if !kernel_or_skip(test) {
        return;
    }
    let Some(server) = server(test) else { return };
    let folder = tempfile::tempdir().unwrap();
    let asking = Asking::start("replicas", folder.path());
    let limit = Duration::from_secs(60);
    let share = |command: &mut Command| {
        command
            .envs(server.variables())
            .env("STETHOS_LEARNING_STORE_URL", url());
    };
    let mut first = watch(&asking, folder.path(), "first", share);
    let learned = first.watching(1, limit).remove(0);
    assert_eq!(learned["source"], "trained");
    first.logged(&["learned models are there for other replicas"], limit);
    first.end();
    let mut second = watch(&asking, folder.path(), "second", share);
    let watching = second.watching(1, limit).remove(0);
    assert_eq!(watching["source"], "store");
    assert_eq!(watching["stethos.model.id"], learned["stethos.model.id"]);
    second.end();

    // Without the store the second replica's state directory serves, and nothing waits.
    drop(server);
    let mut alone = watch(&asking, folder.path(), "second", |command| {
        command
            .env("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
            .env("AWS_ALLOW_HTTP", "true")
            .envs([("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", "x")])
            .env("STETHOS_LEARNING_STORE_URL", url());
    });
    assert_eq!(alone.watching(1, limit)[0]["source"], "state_dir");
    alone.logged(&["the model store fails"], limit);
    alone.end();
}
