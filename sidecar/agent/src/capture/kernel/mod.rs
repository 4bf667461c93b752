//! The kernel programs: loaded and attached once, serving one or more pods.
//!
//! - `load`: programs into the kernel, and attached
//! - `tables`: their maps; `pods`: what each pod has in them; `pod_maps`: how those are made
//! - `pins`: what outlives the process that loaded them
//! - `find`: targets as they stand on this machine

mod contexts;
mod error;
mod find;
mod load;
mod pins;
mod pod_maps;
mod pods;
mod tables;

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicU64, atomic::Ordering},
};

use aya::{
    maps::{Array, HashMap, Map, MapData, PerCpuArray, PerCpuHashMap, PerCpuValues},
    util::nr_cpus,
};
use memmap2::MmapRaw;
use stethos_events::{
    BANK_SLOTS, ContextPlace, DECISIONS, EndedAccount, NO_POD, POLL_SLOTS, SelfFound, lost,
};

use self::{
    contexts::Contexts, error::map_error, load::Programs, pins::Pins, pods::Pods, tables::Source,
};
pub use self::{
    error::KernelError,
    find::{Found, PID_TARGET, with_descendants},
    pins::{lock as lock_pins, possible as pins_possible, unload},
    pod_maps::Capacity,
    pods::Place,
};
use super::{classes, pod::PodMaps, targets::Target};

/// Loaded programs. Their maps may be used from several threads; what concerns the pods as a
/// whole waits for its turn, what one pod asks for does not.
pub struct Kernel {
    /// This process in the initial PID namespace.
    pub own_pid: u32,
    /// What could not be attached and is reported rather than fatal.
    pub missing: Vec<String>,
    /// Ids of this process's cgroup and its ancestors.
    found: SelfFound,
    programs: Programs,
    decisions: MmapRaw,
    ended: Mutex<PerCpuHashMap<MapData, u64, EndedAccount>>,
    lost: Mutex<PerCpuArray<MapData, u64>>,
    excluded: Mutex<HashMap<MapData, u32, u32>>,
    pods: Mutex<Pods>,
    contexts: Mutex<Contexts>,
    /// Maps that only the programs use: until those are loaded, they are held here.
    _classes: Array<MapData, u32>,
    _decisions_map: Map,
}

fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kernel {
    /// Loads `object` for this process alone: the programs detach when this is dropped. Nothing is
    /// captured before [`Kernel::attach`].
    pub fn load(object: &[u8], http: bool) -> Result<Self, KernelError> {
        let mut ebpf = Programs::load(object, http)?;
        let (maps, found) = Maps::take(&mut Source::Loaded(&mut ebpf), None)?;
        Ok(Self::new(maps, found, Programs::Loaded(Box::new(ebpf))))
    }

    /// Starts to capture.
    pub fn attach(&mut self) -> Result<(), KernelError> {
        if let Programs::Loaded(ebpf) = &mut self.programs {
            self.missing = load::attach(ebpf, None)?;
        }
        Ok(())
    }

    /// Takes over what an earlier process left pinned in `root`, if it was the same `object`;
    /// otherwise loads, attaches and pins it, and then removes what others left. Gives the pods
    /// that are served already, too.
    pub fn pinned(
        object: &[u8],
        http: bool,
        root: &Path,
    ) -> Result<(Self, Vec<Place>), KernelError> {
        let key = Pins::key(object, http);
        if let Some(pins) = Pins::left(root, &key) {
            match Self::open(&pins) {
                Ok((kernel, adopted)) => {
                    pins::remove_left(root, Some(&key))?;
                    tracing::info!(pods = adopted.len(), "pinned programs taken over");
                    return Ok((kernel, adopted));
                }
                Err(error) => {
                    tracing::warn!(%error, "pinned programs are damaged and loaded anew");
                    pins::remove_left(root, None)?;
                }
            }
        }
        let loaded = Pins::begin(root, &key).and_then(|pins| {
            let mut ebpf = Programs::load(object, http)?;
            load::pin(&mut ebpf, &pins)?;
            let mut classes: Array<_, u32> = ebpf
                .map_mut("CALL_CLASS")
                .ok_or(KernelError::NoMap("CALL_CLASS"))?
                .try_into()
                .map_err(|source| map_error("CALL_CLASS", source))?;
            set_classes(&mut classes)?;
            let missing = load::attach(&mut ebpf, Some(&pins))?;
            Ok((pins.complete(root, &key)?, missing))
        });
        if loaded.is_err() {
            Pins::abandon(root, &key)?;
        }
        let (pins, missing) = loaded?;
        pins::remove_left(root, Some(&key))?;
        let (mut kernel, adopted) = Self::open(&pins)?;
        kernel.missing = missing;
        Ok((kernel, adopted))
    }

    fn open(pins: &Pins) -> Result<(Self, Vec<Place>), KernelError> {
        let programs = Programs::pinned(pins)?;
        let (maps, found) = Maps::take(&mut Source::Pinned(pins), Some(pins.clone()))?;
        let kernel = Self::new(maps, found, programs);
        let adopted = locked(&kernel.pods).adopt()?;
        kernel.decide_anew();
        Ok((kernel, adopted))
    }

    fn new(maps: Maps, found: SelfFound, programs: Programs) -> Self {
        Self {
            own_pid: (found.pid_tgid >> 32) as u32,
            missing: Vec::new(),
            found,
            programs,
            decisions: maps.decisions,
            ended: Mutex::new(maps.ended),
            lost: Mutex::new(maps.lost),
            excluded: Mutex::new(maps.excluded),
            pods: Mutex::new(maps.pods),
            contexts: Mutex::new(maps.contexts),
            _classes: maps.classes,
            _decisions_map: maps.decisions_map,
        }
    }

    /// Targets as they stand on this machine.
    pub fn find(&self, wanted: &[Target]) -> Result<Vec<Found>, KernelError> {
        find::find(wanted, &self.found)
    }

    /// Makes room for a pod with these targets and begins to serve it. Gives where it is and what
    /// its sidecar needs. `key` is what the pod is found by in [`Kernel::pinned`].
    pub fn add_pod(
        &self,
        key: u64,
        targets: &[Found],
        capacity: Capacity,
    ) -> Result<(Place, PodMaps), KernelError> {
        let processes = find::processes(targets);
        let mut pods = locked(&self.pods);
        let (place, maps) = pods.add(key, targets, &processes, capacity)?;
        drop(pods);
        if let Err(error) = locked(&self.contexts).share() {
            tracing::warn!(%error, "contexts that another program shares are not read");
        }
        self.clear_lost(place.index)?;
        self.decide_anew();
        Ok((place, maps))
    }

    /// Begins to capture `targets`, beside what the pod has in its scope already.
    pub fn watch(&self, place: &mut Place, targets: &[Found]) -> Result<(), KernelError> {
        let processes = find::processes(targets);
        locked(&self.pods).watch(place, targets, &processes)?;
        self.decide_anew();
        Ok(())
    }

    /// Ends to serve a pod and gives its room back.
    pub fn remove_pod(&self, index: u32) -> Result<(), KernelError> {
        let mut pods = locked(&self.pods);
        pods.out_of_scope(index)?;
        self.decide_anew();
        pods.remove(index)?;
        self.include_all_of(index)?;
        let ended: Vec<u64> = locked(&self.ended)
            .iter()
            .flatten()
            .filter(|(_, parts)| parts.iter().any(|part| is_of(part, index)))
            .map(|(cgroup, _)| cgroup)
            .collect();
        for cgroup in ended {
            self.forget_ended(index, cgroup);
        }
        Ok(())
    }

    /// Has the kernel look at what the pod's threads are doing.
    pub fn poll_threads(&self, place: &Place) -> Result<(), KernelError> {
        let first = place.first_bank * BANK_SLOTS as u32;
        let last = first + place.banks * BANK_SLOTS as u32;
        (first..last)
            .step_by(POLL_SLOTS)
            .try_for_each(|start| self.programs.poll(start))
    }

    /// Forgets what was decided about threads, so that each is decided about again at its next
    /// call: after the scope changed, and now and then, because a thread may have been moved.
    pub fn decide_anew(&self) {
        let first = self.decisions.as_mut_ptr().cast::<u64>();
        for index in 0..DECISIONS {
            // SAFETY: within the mapping; an aligned store, as the kernel's own are.
            unsafe { AtomicU64::from_ptr(first.add(index)) }.store(0, Ordering::Relaxed);
        }
    }

    /// What did not travel, by `lost` index.
    pub fn lost(&self, pod: u32) -> Result<[u64; lost::COUNT as usize], KernelError> {
        let mut sums = [0; lost::COUNT as usize];
        let lost = locked(&self.lost);
        for (index, sum) in (pod * lost::COUNT..).zip(sums.iter_mut()) {
            let values = lost
                .get(&index, 0)
                .map_err(|source| map_error("LOST", source))?;
            *sum = values.iter().sum();
        }
        Ok(sums)
    }

    fn clear_lost(&self, pod: u32) -> Result<(), KernelError> {
        let failed = |error: std::io::Error| KernelError::Load(error.to_string());
        let cpus = processors()? as usize;
        let mut lost = locked(&self.lost);
        for index in pod * lost::COUNT..(pod + 1) * lost::COUNT {
            let zero = PerCpuValues::try_from(vec![0; cpus]).map_err(failed)?;
            lost.set(index, zero, 0)
                .map_err(|source| map_error("LOST", source))?;
        }
        Ok(())
    }

    /// Account of the ended threads that a container of this pod had; all 0 when none ended.
    pub fn ended(&self, pod: u32, cgroup: u64) -> EndedAccount {
        let parts = locked(&self.ended).get(&cgroup, 0);
        let mut sum = EndedAccount {
            pod,
            ..EndedAccount::default()
        };
        for part in parts.iter().flat_map(|all| all.iter()) {
            if is_of(part, pod) {
                sum.seen += part.seen;
                sum.lost += part.lost;
                sum.counted += part.counted;
                sum.ran += part.ran;
                sum.run_delay += part.run_delay;
                sum.threads += part.threads;
            }
        }
        sum
    }

    /// Forgets the account of a container of this pod that is gone.
    pub fn forget_ended(&self, pod: u32, cgroup: u64) {
        if self.ended(pod, cgroup).threads > 0 {
            // Without it, nothing is left to forget.
            let _ = locked(&self.ended).remove(&cgroup);
        }
    }

    /// Runs of the programs that the kernel skipped because one was running on that processor
    /// already.
    pub fn skipped_recursion(&self) -> u64 {
        self.programs.skipped_recursion()
    }

    /// Tells the programs where the threads of a process say which span they work for.
    pub fn publish_context(&self, pid: u32, place: ContextPlace) {
        if let Err(error) = locked(&self.contexts).publish(pid, place) {
            tracing::warn!(%error, pid, "contexts of threads are not read");
        }
    }

    /// Processes that are left out of the capture.
    pub fn excluded(&self) -> Vec<u32> {
        locked(&self.excluded).keys().flatten().collect()
    }

    /// Leaves a process (a sidecar of the pod) and what it starts out of the capture.
    pub fn exclude(&self, pid: u32, pod: u32) -> Result<(), KernelError> {
        locked(&self.excluded)
            .insert(pid, pod, 0)
            .map_err(|source| map_error("EXCLUDED", source))?;
        self.decide_anew();
        Ok(())
    }

    /// Takes back [`Kernel::exclude`].
    pub fn include(&self, pid: u32) -> Result<(), KernelError> {
        tables::remove(&mut locked(&self.excluded), "EXCLUDED", &pid)
    }

    /// Leaves nobody out of the capture on this pod's account any more.
    fn include_all_of(&self, pod: u32) -> Result<(), KernelError> {
        let mut excluded = locked(&self.excluded);
        let of_pod: Vec<u32> = excluded
            .iter()
            .flatten()
            .filter(|(_, of)| *of == pod)
            .map(|(pid, _)| pid)
            .collect();
        of_pod
            .iter()
            .try_for_each(|pid| tables::remove(&mut excluded, "EXCLUDED", pid))
    }
}

/// Processors that may run programs.
fn processors() -> Result<u32, KernelError> {
    nr_cpus()
        .map(|processors| processors as u32)
        .map_err(|(what, error)| KernelError::Create {
            what: "counts by processor",
            reason: format!("{what}: {error}"),
        })
}

fn is_of(part: &EndedAccount, pod: u32) -> bool {
    part.threads > 0 && part.pod == pod
}

/// Maps as taken from their source.
struct Maps {
    decisions: MmapRaw,
    ended: PerCpuHashMap<MapData, u64, EndedAccount>,
    lost: PerCpuArray<MapData, u64>,
    excluded: HashMap<MapData, u32, u32>,
    pods: Pods,
    contexts: Contexts,
    classes: Array<MapData, u32>,
    decisions_map: Map,
}

impl Maps {
    fn take(source: &mut Source<'_>, pins: Option<Pins>) -> Result<(Self, SelfFound), KernelError> {
        let found = load::discover(source)?;
        let mut classes: Array<MapData, u32> = source.take("CALL_CLASS")?;
        set_classes(&mut classes)?;
        let mut excluded: HashMap<MapData, u32, u32> = source.take("EXCLUDED")?;
        excluded
            .insert((found.pid_tgid >> 32) as u32, NO_POD, 0)
            .map_err(|source| map_error("EXCLUDED", source))?;
        let (decisions_map, decisions) = source.decisions()?;
        let maps = Self {
            decisions,
            ended: source.take("ENDED")?,
            lost: source.take("LOST")?,
            excluded,
            pods: Pods::take(source, pins)?,
            contexts: Contexts::take(source)?,
            classes,
            decisions_map,
        };
        Ok((maps, found))
    }
}

fn set_classes<T: std::borrow::BorrowMut<MapData>>(
    classes: &mut Array<T, u32>,
) -> Result<(), KernelError> {
    for (number, class) in (0..).zip(classes::table()) {
        classes
            .set(number, class, 0)
            .map_err(|source| map_error("CALL_CLASS", source))?;
    }
    Ok(())
}
