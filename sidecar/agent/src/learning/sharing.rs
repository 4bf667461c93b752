//! What the store that replicas share is asked, and what its answers change. Nothing waits for it:
//! questions are tasks, whose answers are collected once a second.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    task::{AbortHandle, JoinSet},
    time::timeout,
};

use super::{
    Change, Learning, Unkept,
    change::{Meanwhile, Source},
    container::Phase,
    shared::{Found, Saved, SharedStore, Taken, counts::Task, place::Place},
};
use crate::record::ContainerIndex;

/// A container that learns is looked for again after this long: another replica may be done.
const LOOK_AGAIN_NS: u64 = 30_000_000_000;

#[derive(Debug)]
enum Answer {
    Found(Found),
    Saved(Saved),
}

/// The store and what it was asked.
pub(super) struct Sharing {
    store: Arc<SharedStore>,
    asked: JoinSet<(ContainerIndex, Answer)>,
    /// The last question about each container that is not answered yet.
    open: BTreeMap<ContainerIndex, (Task, AbortHandle)>,
}

impl Sharing {
    fn new(store: Arc<SharedStore>) -> Self {
        Self {
            store,
            asked: JoinSet::new(),
            open: BTreeMap::new(),
        }
    }

    fn find(&mut self, container: ContainerIndex, place: Place, older: bool) {
        let store = self.store.clone();
        let answer = async move { Answer::Found(store.find(&place, older).await) };
        self.ask(container, Task::Find, answer);
    }

    /// `over`: the model that may be replaced.
    fn save(
        &mut self,
        container: ContainerIndex,
        place: Place,
        file: Vec<u8>,
        over: Option<String>,
    ) {
        let store = self.store.clone();
        let answer =
            async move { Answer::Saved(store.save_over(&place, file, over.as_deref()).await) };
        self.ask(container, Task::Save, answer);
    }

    fn save_new_version(
        &mut self,
        container: ContainerIndex,
        place: Place,
        file: Vec<u8>,
        replica: String,
    ) {
        let store = self.store.clone();
        let answer =
            async move { Answer::Saved(store.save_new_version(&place, file, &replica).await) };
        self.ask(container, Task::Save, answer);
    }

    /// An earlier question about the container is given up.
    fn ask(
        &mut self,
        container: ContainerIndex,
        task: Task,
        answer: impl Future<Output = Answer> + Send + 'static,
    ) {
        let handle = self.asked.spawn(async move { (container, answer.await) });
        if let Some((_, earlier)) = self.open.insert(container, (task, handle)) {
            earlier.abort();
        }
    }

    /// The answers that came, but for those to questions that were given up.
    fn answers(&mut self) -> Vec<(ContainerIndex, Answer)> {
        let mut answers = Vec::new();
        while let Some(ended) = self.asked.try_join_next_with_id() {
            let id = ended
                .as_ref()
                .map_or_else(|error| error.id(), |(id, _)| *id);
            let open = self.open.len();
            self.open.retain(|_, (_, handle)| handle.id() != id);
            match ended {
                Ok((_, answer)) if self.open.len() < open => answers.push(answer),
                _ => {}
            }
        }
        answers
    }
}

impl Learning {
    /// Shares bundles with other replicas from now on.
    pub fn share(&mut self, store: Arc<SharedStore>) {
        self.sharing = Some(Sharing::new(store));
    }

    pub fn shared(&self) -> Option<&SharedStore> {
        self.sharing.as_ref().map(|sharing| &*sharing.store)
    }

    /// Waits until learned models are stored for other replicas, at most for `limit`.
    pub async fn settle(&mut self, limit: Duration) {
        let Some(sharing) = &mut self.sharing else {
            return;
        };
        for (task, handle) in sharing.open.values() {
            if *task == Task::Find {
                handle.abort();
            }
        }
        let all = async { while sharing.asked.join_next().await.is_some() {} };
        if timeout(limit, all).await.is_err() {
            tracing::warn!("learned models were not stored for other replicas in time");
        }
    }

    /// Asks the store for models of a container.
    pub(super) fn look(&mut self, index: ContainerIndex) {
        let (Some(sharing), Some(container)) = (&mut self.sharing, self.containers.get_mut(&index))
        else {
            return;
        };
        container.ask_at_ns = None;
        if let Some(place) = &container.place {
            sharing.find(index, place.clone(), container.model.is_none());
        }
    }

    /// Stores a container's learned models for other replicas.
    pub(super) fn offer(&mut self, index: ContainerIndex, file: Vec<u8>) {
        let (Some(sharing), Some(container)) = (&mut self.sharing, self.containers.get(&index))
        else {
            return;
        };
        if let Some(place) = &container.place
            && sharing.store.can_save()
        {
            let over = container.kept.supersedes.clone();
            sharing.save(index, place.clone(), file, over);
        }
    }

    /// Stores what a container has learned of a new version of its image, for others to agree with;
    /// one that cannot store waits for them.
    pub(super) fn propose(&mut self, index: ContainerIndex, file: Vec<u8>) {
        let (Some(sharing), Some(container)) = (&mut self.sharing, self.containers.get_mut(&index))
        else {
            return;
        };
        container.ask_at_ns = Some(self.now_ns + LOOK_AGAIN_NS);
        if let Some(place) = container.place.clone()
            && sharing.store.can_save()
        {
            sharing.save_new_version(index, place, file, self.settings.replica.clone());
        }
    }

    /// What the answers that came have changed. Containers that still learn are looked for again.
    pub(super) fn take_answers(&mut self) -> Vec<Change> {
        let Some(sharing) = &mut self.sharing else {
            return Vec::new();
        };
        let answers = sharing.answers();
        let changes = answers
            .into_iter()
            .filter_map(|(index, answer)| self.take_answer(index, answer))
            .collect();
        let now = self.now_ns;
        let due = |at_ns: Option<u64>| at_ns.is_some_and(|at_ns| at_ns <= now);
        let again: Vec<_> = self
            .containers
            .iter()
            .filter(|(_, container)| {
                let looks = container.phase.is_learning() || container.phase.is_proving();
                looks && due(container.ask_at_ns)
            })
            .map(|(index, _)| *index)
            .collect();
        for index in again {
            self.look(index);
        }
        changes
    }

    fn take_answer(&mut self, index: ContainerIndex, answer: Answer) -> Option<Change> {
        let container = &self.containers.get(&index)?.info.name;
        match answer {
            Answer::Found(Found::Exact(taken)) => self.agree(index, taken),
            Answer::Found(Found::Older(taken)) => {
                let (container, model) = (container.clone(), taken.id.clone());
                let change = self.begin_from(index, taken);
                if change.is_some() {
                    tracing::info!(container, model, "another version's models are there");
                }
                self.missing(index);
                change
            }
            Answer::Found(Found::Nothing) => {
                tracing::debug!(container, "no models of another replica are there");
                self.missing(index);
                None
            }
            Answer::Saved(Saved::Other(taken)) => {
                tracing::info!(
                    container,
                    model = taken.id,
                    "another replica's models were first"
                );
                self.agree(index, taken)
            }
            Answer::Saved(Saved::Unproven) => {
                self.missing(index);
                None
            }
            Answer::Saved(saved) => {
                tracing::info!(
                    container,
                    ?saved,
                    "learned models are there for other replicas"
                );
                self.superseded(index);
                if self
                    .containers
                    .get(&index)
                    .is_some_and(|c| c.phase.is_proving())
                {
                    // Enough replicas have seen it healthy: it is found now.
                    self.look(index);
                }
                None
            }
        }
    }

    /// Puts another replica's models in force, in place of a container's own.
    fn agree(&mut self, index: ContainerIndex, taken: Taken) -> Option<Change> {
        let container = self.containers.get_mut(&index)?;
        let learned = !container.phase.is_learning();
        if container.kept.supersedes.as_ref() == Some(&taken.id) {
            // What an operator has had learned anew goes before it.
            self.missing(index);
            return None;
        }
        if learned && container.model.as_ref() == Some(&taken.id) {
            self.superseded(index);
            return None;
        }
        container.phase = Phase::Watching;
        container.older = false;
        container.model = Some(taken.id.clone());
        container.ask_at_ns = None;
        if let Some(key) = container.key.clone() {
            self.unkept.insert(key, Unkept::new(taken.file));
        }
        if let Some(training) = self.running.remove(&index) {
            training.abort();
        }
        self.relearned(index);
        self.superseded(index);
        self.settle_in();
        Some(Change::Watching {
            container: index,
            bundle: taken.bundle,
            id: taken.id,
            source: Source::Store,
        })
    }

    /// Puts models of another version of the image in force while a container learns.
    fn begin_from(&mut self, index: ContainerIndex, taken: Taken) -> Option<Change> {
        let container = self.containers.get_mut(&index)?;
        if !container.phase.is_learning() || container.model.is_some() {
            return None;
        }
        container.model = Some(taken.id.clone());
        container.older = true;
        let meanwhile = Meanwhile::new(Arc::unwrap_or_clone(taken.bundle), taken.id);
        Some(Change::Learning {
            container: index,
            meanwhile: Some(meanwhile),
        })
    }

    /// Nothing is there for this version of the image: what was learned in an earlier run goes there.
    fn missing(&mut self, index: ContainerIndex) {
        let again_ns = self.now_ns + LOOK_AGAIN_NS;
        let Some(container) = self.containers.get_mut(&index) else {
            return;
        };
        if container.phase.is_learning() || container.phase.is_proving() {
            container.ask_at_ns = Some(again_ns);
            return;
        }
        let (Some(key), Some(place)) = (&container.key, &container.place) else {
            return;
        };
        let stored = self.store.load(key).ok().flatten();
        let own = stored.filter(|bundle| bundle.card.subject.as_ref() == Some(&place.subject));
        if let Some(Ok(file)) = own.map(|bundle| bundle.write()) {
            self.offer(index, file);
        }
    }
}
