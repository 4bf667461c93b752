//! Going on with what an earlier process saw of a container that it learned.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    Change, Learning,
    container::{Container, FIRST_PROCESS_NS},
    held,
    notebook::Learner,
    progress::{Bounds, Progress},
    training_set::{self, Sink, TrainingSetError},
};
use crate::{
    record::{ContainerIndex, Nanos, Record},
    windows::Piece,
};

/// What earlier processes recorded of a container.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    /// In the order of their writing.
    pub(super) recordings: Vec<PathBuf>,
    /// Calls in them, once they are read.
    pub(super) calls: u64,
    /// They are read now.
    pub(super) is_read: bool,
}

/// What a container showed in them.
pub(super) struct Replayed {
    progress: Progress,
    /// Those that can be read.
    recordings: Vec<PathBuf>,
    /// The others, and why.
    unreadable: Vec<(PathBuf, TrainingSetError)>,
    /// Spans of which nothing is learned.
    left_out: Vec<(Nanos, Nanos)>,
}

impl Learning {
    /// Goes on with the learning of a container that has begun, where an earlier process was ended in it.
    pub(super) fn resume(&mut self, index: ContainerIndex) {
        let Some(container) = self.containers.get_mut(&index) else {
            return;
        };
        let learns = container.phase.is_learning();
        let (Some(key), Some(place), true) = (&container.key, &container.place, learns) else {
            return;
        };
        let image = place.subject.image.as_deref();
        let name = container.info.name.clone();
        let earlier = self.notebook.earlier(&name, &key.to_string(), image);
        if earlier.is_empty() {
            return;
        }
        container.earlier.is_read = true;
        container.spoilt |= earlier.iter().any(|(_, learner)| learner.spoilt);
        let bounds = self.settings.bounds;
        let replay = move || (index, replay(earlier, &name, bounds));
        self.replays.spawn_blocking(replay);
    }

    /// What was read of earlier processes' recordings counts from now on.
    pub(super) fn take_replays(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        while let Some(ended) = self.replays.try_join_next() {
            let Ok((index, replayed)) = ended else {
                continue;
            };
            for (path, error) in replayed.unreadable {
                tracing::warn!(%error, "what was recorded earlier is not learned from");
                self.notebook.discard(&path);
            }
            let Some(container) = self.containers.get_mut(&index) else {
                continue;
            };
            let calls = replayed.progress.calls();
            container.earlier = Earlier {
                recordings: replayed.recordings,
                calls,
                is_read: false,
            };
            if let Some(live) = container.phase.progress()
                && !container.earlier.recordings.is_empty()
            {
                live.resume(replayed.progress);
                container.held.follow(replayed.left_out);
                changes.push(Change::Resumed {
                    container: index,
                    calls,
                });
            }
        }
        if self.replays.is_empty() {
            // A reading that died does not say whose it was.
            for container in self.containers.values_mut() {
                container.earlier.is_read = false;
            }
        }
        changes
    }

    /// Removes what earlier processes recorded, once everything that is known has its models and has been
    /// known for a while.
    pub(super) fn forget_earlier(&mut self) {
        let known_ns = self.started_ns.map(|at_ns| at_ns + FIRST_PROCESS_NS);
        let known = known_ns.is_some_and(|known_ns| known_ns <= self.now_ns);
        if known && self.notebook.has_earlier() && !self.is_learning() {
            self.notebook.close();
        }
    }

    /// Says in the notebook what the next process has to know to go on.
    pub(super) fn note(&mut self) {
        let learners: BTreeMap<String, Learner> =
            self.containers.values().filter_map(learner).collect();
        self.notebook.set_about(learners);
    }
}

/// What is to be known of a container that learns.
fn learner(container: &Container) -> Option<(String, Learner)> {
    let (key, place) = (container.key.as_ref()?, container.place.as_ref()?);
    if !container.phase.is_learning() {
        return None;
    }
    let learner = Learner {
        key: key.to_string(),
        image: place.subject.image.clone(),
        left_out: container.held.lasting(),
        spoilt: container.spoilt,
    };
    Some((container.info.name.clone(), learner))
}

/// Reads recordings, of each without what is left out of it.
fn replay(recordings: Vec<(PathBuf, Learner)>, name: &str, bounds: Bounds) -> Replayed {
    let mut replayed = Replayed {
        progress: Progress::new(bounds),
        recordings: Vec::new(),
        unreadable: Vec::new(),
        left_out: Vec::new(),
    };
    for (path, learner) in recordings {
        let mut replay = Replay {
            name,
            left_out: &learner.left_out,
            names: BTreeMap::new(),
            progress: replayed.progress.clone(),
            now_ns: 0,
        };
        let read = training_set::open(&path);
        if let Err(error) = read.and_then(|reader| training_set::pass_on(reader, &mut replay)) {
            replayed.unreadable.push((path, error));
            continue;
        }
        replay.progress.pause(replay.now_ns);
        // An incident that was open ended with the recording: nothing is known of what came after it.
        let ended = learner.left_out.iter();
        let ended = ended.map(|(from, to)| (*from, (*to).min(replay.now_ns).max(*from)));
        replayed.left_out.extend(ended);
        replayed.progress = replay.progress;
        replayed.recordings.push(path);
    }
    replayed.left_out.sort_unstable();
    replayed
}

struct Replay<'a> {
    name: &'a str,
    left_out: &'a [(Nanos, Nanos)],
    names: BTreeMap<ContainerIndex, String>,
    progress: Progress,
    now_ns: Nanos,
}

impl Sink for Replay<'_> {
    fn record(&mut self, record: &Record) {
        match record {
            Record::Container(info) => {
                self.names.insert(info.container, info.name.clone());
            }
            Record::Tick(tick) => {
                self.now_ns = tick.at_ns;
                self.progress.on_tick(tick.at_ns);
            }
            _ => {}
        }
    }

    fn piece(&mut self, piece: Piece) {
        let Piece::Window(window) = piece else { return };
        self.now_ns = self.now_ns.max(window.end_ns());
        let name = self.names.get(&window.container);
        let its_own = name.is_some_and(|name| name == self.name);
        if its_own && !held::overlaps(self.left_out, window.start_ns(), window.end_ns()) {
            self.progress.on_window(&window);
        }
    }
}
