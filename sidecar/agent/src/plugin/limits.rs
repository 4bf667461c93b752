//! What a guest may take: bytes of memory and time.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use wasmtime::{Engine, ResourceLimiter};

/// Elements of one table of a guest: functions that it calls indirectly.
const TABLE_ELEMENTS: usize = 100_000;
/// Instances, tables and memories of one guest's component.
const PARTS: usize = 32;

/// Counts the bytes of a guest's memories and refuses growth beyond the limit.
pub(super) struct MemoryLimit {
    limit: usize,
    pub(super) used: usize,
    /// A growth was refused since this was last set to false.
    pub(super) refused: bool,
}

impl MemoryLimit {
    pub(super) fn new(limit: usize) -> Self {
        MemoryLimit {
            limit,
            used: 0,
            refused: false,
        }
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        if used > self.limit {
            self.refused = true;
            return Ok(false);
        }
        self.used = used;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let allowed = desired <= TABLE_ELEMENTS;
        self.refused |= !allowed;
        Ok(allowed)
    }

    fn instances(&self) -> usize {
        PARTS
    }

    fn tables(&self) -> usize {
        PARTS
    }

    fn memories(&self) -> usize {
        PARTS
    }
}

/// Advances the engine's epoch while guests run, and sleeps while none does.
#[derive(Clone)]
pub(super) struct Ticker {
    shared: Arc<Shared>,
    _stop: Arc<StopOnDrop>,
}

struct Shared {
    state: Mutex<TickerState>,
    changed: Condvar,
}

#[derive(Default)]
struct TickerState {
    running: usize,
    stopped: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, TickerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct StopOnDrop(Arc<Shared>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.state().stopped = true;
        self.0.changed.notify_all();
    }
}

impl Ticker {
    const TICK: Duration = Duration::from_millis(10);

    pub(super) fn start(engine: &Engine) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let (engine, of_thread) = (engine.weak(), Arc::clone(&shared));
        thread::Builder::new()
            .name("plugin-clock".into())
            .spawn(move || {
                loop {
                    let mut state = of_thread.state();
                    while state.running == 0 && !state.stopped {
                        state = of_thread
                            .changed
                            .wait(state)
                            .unwrap_or_else(PoisonError::into_inner);
                    }
                    if state.stopped {
                        return;
                    }
                    drop(state);
                    thread::sleep(Self::TICK);
                    let Some(engine) = engine.upgrade() else {
                        return;
                    };
                    engine.increment_epoch();
                }
            })?;
        Ok(Ticker {
            _stop: Arc::new(StopOnDrop(Arc::clone(&shared))),
            shared,
        })
    }

    /// Ticks until the guard is dropped.
    pub(super) fn run(&self) -> Running<'_> {
        let mut state = self.shared.state();
        state.running += 1;
        if state.running == 1 {
            self.shared.changed.notify_one();
        }
        Running(self)
    }

    /// Ticks after which at least `time` has passed.
    pub(super) fn ticks(time: Duration) -> u64 {
        time.as_millis().div_ceil(Self::TICK.as_millis()) as u64 + 1
    }
}

pub(super) struct Running<'a>(&'a Ticker);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.shared.state().running -= 1;
    }
}
