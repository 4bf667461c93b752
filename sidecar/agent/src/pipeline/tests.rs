mod lasting;

use stethos_bundle::{Bundle, sample::bundle};

use super::*;
use crate::{
    config::PluginsConfig,
    learning::{
        Change,
        change::{Meanwhile, Source},
    },
};

fn header() -> Header {
    Header {
        arch: "x86_64".to_owned(),
        kernel: "6.1.0".to_owned(),
        unix_offset_ns: 0,
        capture_mode: "broker".to_owned(),
        target: "self-pod".to_owned(),
    }
}

#[tokio::test]
async fn whole_streams_are_wanted_until_a_containers_own_models_are_learned() {
    let models = Models::for_replay(&PluginsConfig::default(), None).unwrap();
    let mut pipeline = Pipeline::new(header(), models, None, Some(DiagnosisConfig::default()));
    let has = |pipeline: &Pipeline| {
        let engine = pipeline.engine.as_ref().unwrap();
        let own = learned(engine, &pipeline.still_learning, 0).is_some();
        (engine.model(0).is_some(), own)
    };
    let old = Meanwhile {
        bundle: Arc::new(bundle(1)),
        id: "old".to_owned(),
    };
    let change = Change::Learning {
        container: 0,
        meanwhile: Some(old),
    };
    pipeline.apply(&change).await;
    assert_eq!(has(&pipeline), (true, false));
    let change = Change::Watching {
        container: 0,
        bundle: Arc::new(bundle(2)),
        id: "own".to_owned(),
        source: Source::Trained,
    };
    pipeline.apply(&change).await;
    assert_eq!(has(&pipeline), (true, true));
}
