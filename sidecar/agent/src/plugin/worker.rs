//! The plugin's own thread: the guest, its models, its restarts and its quarantine.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::HostConfig;
use super::contract::{
    Assessment, CONTRACT, Description, ModelShape, PatternPluginPre, TokenWindow, Usage,
};
use super::error::PluginError;
use super::health::{Bounds, Health};
use super::host::{LoadedModel, ModelId};
use super::instance::{Failure, Instance};
use super::limits::{MemoryLimit, Ticker};
use super::metrics::PluginMetrics;
use super::results::{self, Results};
use crate::diagnosis::verdict::Verdict;

type Reply<R> = oneshot::Sender<Result<R, PluginError>>;

pub(super) enum Request {
    Fit {
        usage: Arc<Usage>,
        reply: Reply<f32>,
    },
    Load {
        model: Arc<[u8]>,
        reply: Reply<LoadedModel>,
    },
    Unload {
        model: ModelId,
        reply: Reply<()>,
    },
    Score {
        model: ModelId,
        windows: Vec<TokenWindow>,
        reply: Reply<Vec<Verdict>>,
    },
    Assess {
        model: ModelId,
        profiles: Vec<Vec<f32>>,
        reply: Reply<Vec<Assessment>>,
    },
}

pub(super) struct Worker {
    name: String,
    component: PatternPluginPre<MemoryLimit>,
    ticker: Ticker,
    config: Arc<HostConfig>,
    metrics: Arc<PluginMetrics>,
    instance: Option<Instance>,
    models: BTreeMap<ModelId, Model>,
    next_model: u32,
    results: Results,
    health: Health,
}

struct Model {
    bytes: Arc<[u8]>,
    shape: ModelShape,
    /// The running guest's number for it.
    number: u32,
}

impl Worker {
    pub(super) fn new(
        name: &str,
        component: PatternPluginPre<MemoryLimit>,
        ticker: Ticker,
        config: Arc<HostConfig>,
        metrics: Arc<PluginMetrics>,
    ) -> Self {
        Worker {
            name: name.into(),
            component,
            ticker,
            results: Results::new(config.cached_verdicts),
            health: Health::new(Bounds {
                in_a_row: config.failures,
                in_a_minute: config.failures_in_a_minute,
                backoff: config.backoff,
            }),
            config,
            metrics,
            instance: None,
            models: BTreeMap::new(),
            next_model: 0,
        }
    }

    /// Answers requests until every handle is gone.
    pub(super) fn run(
        mut self,
        started: &SyncSender<Result<Description, PluginError>>,
        mut requests: mpsc::Receiver<Request>,
    ) {
        let description = self.with_guest(|guest, ticker, metrics| guest.describe(ticker, metrics));
        let ready = description.is_ok();
        if started.send(description).is_err() || !ready {
            return;
        }
        // A caller that no longer waits for its answer is no failure.
        while let Some(request) = requests.blocking_recv() {
            self.metrics.calls.fetch_add(1, Relaxed);
            match request {
                Request::Fit { usage, reply } => {
                    let fit = self
                        .with_guest(|guest, ticker, metrics| guest.fit(ticker, metrics, &usage));
                    drop(reply.send(fit));
                }
                Request::Load { model, reply } => drop(reply.send(self.load(model))),
                Request::Unload { model, reply } => drop(reply.send(self.unload(model))),
                Request::Score {
                    model,
                    windows,
                    reply,
                } => {
                    let asked = windows.len() as u64;
                    self.metrics.windows.fetch_add(asked, Relaxed);
                    let verdicts = self.score(model, windows);
                    if verdicts.is_err() {
                        self.metrics.unjudged.fetch_add(asked, Relaxed);
                    }
                    drop(reply.send(verdicts));
                }
                Request::Assess {
                    model,
                    profiles,
                    reply,
                } => {
                    drop(reply.send(self.assess(model, &profiles)));
                }
            }
        }
    }

    fn load(&mut self, bytes: Arc<[u8]>) -> Result<LoadedModel, PluginError> {
        let (number, shape) =
            self.with_guest(|guest, ticker, metrics| guest.load(ticker, metrics, &bytes))?;
        let id = ModelId(self.next_model);
        self.next_model += 1;
        self.models.insert(
            id,
            Model {
                bytes,
                shape,
                number,
            },
        );
        Ok(LoadedModel { id, shape })
    }

    fn unload(&mut self, id: ModelId) -> Result<(), PluginError> {
        let Some(model) = self.models.remove(&id) else {
            return Ok(());
        };
        if self.instance.is_none() {
            return Ok(());
        }
        self.with_guest(|guest, ticker, metrics| guest.unload(ticker, metrics, model.number))
    }

    fn score(
        &mut self,
        id: ModelId,
        windows: Vec<TokenWindow>,
    ) -> Result<Vec<Verdict>, PluginError> {
        self.refuse_when_quarantined()?;
        self.model(id)?;
        let mut verdicts: Vec<Option<Verdict>> = Vec::with_capacity(windows.len());
        // Each distinct window that is not known yet, and the places that wait for it.
        let mut unknown = Vec::new();
        let mut places: Vec<Vec<usize>> = Vec::new();
        let mut distinct: HashMap<Box<[u16]>, usize> = HashMap::new();
        let mut key = Vec::new();
        for (place, window) in windows.into_iter().enumerate() {
            results::key(id, &window, &mut key);
            verdicts.push(self.results.get(&key).cloned());
            if verdicts[place].is_some() {
                continue;
            }
            match distinct.get(key.as_slice()) {
                Some(&index) => places[index].push(place),
                None => {
                    distinct.insert(key.as_slice().into(), unknown.len());
                    unknown.push(window);
                    places.push(vec![place]);
                }
            }
        }
        let misses = unknown.len() as u64;
        self.metrics.cache_misses.fetch_add(misses, Relaxed);
        self.metrics
            .cache_hits
            .fetch_add(verdicts.len() as u64 - misses, Relaxed);
        let batch = self.config.batch.max(1);
        for (windows, places) in unknown.chunks(batch).zip(places.chunks(batch)) {
            let scored = self.score_batch(id, windows)?;
            for ((verdict, window), places) in scored.into_iter().zip(windows).zip(places) {
                for &place in places {
                    verdicts[place] = Some(verdict.clone());
                }
                results::key(id, window, &mut key);
                self.results.put(key.as_slice().into(), verdict);
            }
        }
        Ok(verdicts.into_iter().flatten().collect())
    }

    fn score_batch(
        &mut self,
        id: ModelId,
        windows: &[TokenWindow],
    ) -> Result<Vec<Verdict>, PluginError> {
        self.metrics.batches.fetch_add(1, Relaxed);
        self.ready()?;
        let Model { number, shape, .. } = *self.model(id)?;
        let verdicts = self.with_guest(|guest, ticker, metrics| {
            guest.score(ticker, metrics, number, shape.vocabulary, windows)
        })?;
        self.health.succeeded();
        Ok(verdicts)
    }

    fn assess(
        &mut self,
        id: ModelId,
        profiles: &[Vec<f32>],
    ) -> Result<Vec<Assessment>, PluginError> {
        self.metrics.batches.fetch_add(1, Relaxed);
        self.ready()?;
        let Model { number, shape, .. } = *self.model(id)?;
        let assessments = self.with_guest(|guest, ticker, metrics| {
            guest.assess(ticker, metrics, number, shape.latent, profiles)
        })?;
        self.health.succeeded();
        Ok(assessments)
    }

    fn model(&self, id: ModelId) -> Result<&Model, PluginError> {
        self.models
            .get(&id)
            .ok_or_else(|| PluginError::UnknownModel {
                name: self.name.clone(),
                model: id.0,
            })
    }

    /// Calls into a sound guest; a failure other than the guest's own error ends the guest.
    fn with_guest<R>(
        &mut self,
        act: impl FnOnce(&mut Instance, &Ticker, &PluginMetrics) -> Result<R, Failure>,
    ) -> Result<R, PluginError> {
        self.ready()?;
        let Some(guest) = &mut self.instance else {
            return Err(PluginError::Stopped {
                name: self.name.clone(),
            });
        };
        act(guest, &self.ticker, &self.metrics).map_err(|failure| self.fail(failure))
    }

    /// Starts the guest and gives it its models where it is not running.
    fn ready(&mut self) -> Result<(), PluginError> {
        self.refuse_when_quarantined()?;
        if self.instance.is_some() {
            return Ok(());
        }
        if let Some(wait) = self.health.wait(Instant::now()) {
            let (name, failures) = (self.name.clone(), self.health.in_a_row());
            return Err(PluginError::BackingOff {
                name,
                failures,
                wait,
            });
        }
        if self.health.in_a_row() > 0 {
            self.metrics.restarts.fetch_add(1, Relaxed);
        }
        let HostConfig {
            memory, deadline, ..
        } = *self.config;
        let mut guest = Instance::start(&self.component, &self.ticker, memory, deadline)
            .map_err(|failure| self.fail(failure))?;
        for model in self.models.values_mut() {
            match guest.load(&self.ticker, &self.metrics, &model.bytes) {
                Ok((number, shape)) if same(&shape, &model.shape) => model.number = number,
                Ok(_) => {
                    let reason = "a model has another shape after a restart".into();
                    return Err(self.fail(Failure::Invalid(reason)));
                }
                // It took this model before.
                Err(Failure::Refused(reason)) => return Err(self.fail(Failure::Invalid(reason))),
                Err(failure) => return Err(self.fail(failure)),
            }
        }
        self.instance = Some(guest);
        Ok(())
    }

    fn refuse_when_quarantined(&self) -> Result<(), PluginError> {
        if !self.health.is_quarantined() {
            return Ok(());
        }
        Err(PluginError::Quarantined {
            name: self.name.clone(),
            failures: self.health.failures(),
        })
    }

    /// Counts a failure; all but the guest's own error end the guest and, after too many, the
    /// plugin.
    fn fail(&mut self, failure: Failure) -> PluginError {
        let refused = matches!(failure, Failure::Refused(_));
        let (counter, error) = self.describe(failure);
        counter.fetch_add(1, Relaxed);
        let now = Instant::now();
        if refused {
            self.health.refused(now);
        } else {
            self.instance = None;
            self.health.failed(now);
        }
        let failures = self.health.failures();
        if self.health.is_quarantined() {
            self.instance = None;
            self.metrics.memory_bytes.store(0, Relaxed);
            self.metrics.quarantined.store(true, Relaxed);
            tracing::error!(%error, failures, "plugin quarantined");
        } else if refused {
            tracing::warn!(%error, "plugin refused");
        } else {
            tracing::warn!(%error, failures, "plugin failed, its guest restarts");
        }
        error
    }

    /// The counter of a failure, and how it is told.
    fn describe(&self, failure: Failure) -> (&AtomicU64, PluginError) {
        let (name, metrics) = (self.name.clone(), &self.metrics);
        match failure {
            Failure::Refused(reason) => (&metrics.refusals, PluginError::Refused { name, reason }),
            Failure::Trap(reason) => (&metrics.traps, PluginError::Trap { name, reason }),
            Failure::Timeout => {
                let limit = self.config.deadline;
                (&metrics.timeouts, PluginError::Timeout { name, limit })
            }
            Failure::Memory => {
                let limit = self.config.memory;
                (
                    &metrics.memory_refusals,
                    PluginError::Memory { name, limit },
                )
            }
            Failure::Contract(reason) => (
                &metrics.invalid_answers,
                PluginError::DifferentContract {
                    name,
                    expected: CONTRACT,
                    reason,
                },
            ),
            Failure::Invalid(reason) => (
                &metrics.invalid_answers,
                PluginError::Invalid { name, reason },
            ),
        }
    }
}

fn same(a: &ModelShape, b: &ModelShape) -> bool {
    (a.vocabulary, a.patterns, a.profile, a.latent)
        == (b.vocabulary, b.patterns, b.profile, b.latent)
}
