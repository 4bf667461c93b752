//! The pods that the programs serve: their rings, banks of slots, and place in the scope.

use std::fs;

use aya::maps::{Array, HashMap, MapData};
use stethos_events::{BANK_SLOTS, BANKS, PODS, PidScope, PodEntry};

use super::{
    KernelError,
    error::map_error,
    find::{Found, Named},
    pins::{self, Pins},
    pod_maps::{Capacity, NewMaps, OF_POD},
    tables::{Outer, Source, is_missing, remove},
};
use crate::capture::{pidfd, pod::PodMaps};

/// What one served pod has among the maps of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub index: u32,
    /// What its server knows it by.
    pub key: u64,
    /// Id of its ring of windows: no other set of maps ever has it.
    pub id: u32,
    pub first_bank: u32,
    pub banks: u32,
    /// Ids of its target cgroups.
    pub cgroups: Vec<u64>,
    /// Whether processes are among its targets.
    pub processes: bool,
}

pub(super) struct Pods {
    /// In the order of `OF_POD`.
    of_pod: Vec<Outer>,
    slots: Outer,
    table: Array<MapData, PodEntry>,
    scope: HashMap<MapData, u64, u32>,
    scope_pids: HashMap<MapData, u32, PidScope>,
    claims: HashMap<MapData, u32, u32>,
    served: Vec<Option<Place>>,
    pins: Option<Pins>,
}

impl Pods {
    pub(super) fn take(source: &mut Source<'_>, pins: Option<Pins>) -> Result<Self, KernelError> {
        Ok(Self {
            of_pod: OF_POD
                .iter()
                .map(|(name, _)| Outer::take(source, name))
                .collect::<Result<_, _>>()?,
            slots: Outer::take(source, "SLOTS")?,
            table: source.take("POD_TABLE")?,
            scope: source.take("SCOPE")?,
            scope_pids: source.take("SCOPE_PIDS")?,
            claims: source.take("CLAIMS")?,
            served: vec![None; PODS],
            pins,
        })
    }

    /// Makes room for a pod and begins to serve it.
    pub(super) fn add(
        &mut self,
        key: u64,
        targets: &[Found],
        processes: &[Named],
        capacity: Capacity,
    ) -> Result<(Place, PodMaps), KernelError> {
        self.refuse_watched(targets)?;
        let banks = capacity.banks();
        let index = self.free_index()?;
        let first_bank = self.free_banks(banks)?;
        let new = NewMaps::make(capacity)?;
        let maps = new.handed_out(capacity)?;
        let mut place = Place {
            index,
            key,
            id: new.id()?,
            first_bank,
            banks,
            cgroups: Vec::new(),
            processes: false,
        };
        self.served[index as usize] = Some(place.clone());
        let began = self
            .begin(&place, &new)
            .and_then(|()| self.watch(&mut place, targets, processes));
        if let Err(error) = began {
            self.remove(index)?;
            return Err(error);
        }
        Ok((place, maps))
    }

    fn begin(&mut self, place: &Place, new: &NewMaps) -> Result<(), KernelError> {
        self.pin(place, new)?;
        for (outer, map) in self.of_pod.iter_mut().zip(&new.of_pod) {
            outer.set(place.index, map)?;
        }
        for (bank, slots) in (place.first_bank..).zip(&new.banks) {
            self.slots.set(bank, slots)?;
        }
        self.table
            .set(
                place.index,
                PodEntry {
                    first_bank: place.first_bank,
                    slots: place.banks * BANK_SLOTS as u32,
                },
                0,
            )
            .map_err(|source| map_error("POD_TABLE", source))
    }

    /// Takes targets into the scope of a served pod; `processes` are those among them.
    pub(super) fn watch(
        &mut self,
        place: &mut Place,
        targets: &[Found],
        processes: &[Named],
    ) -> Result<(), KernelError> {
        for target in targets {
            match target {
                Found::Cgroup(cgroup) => {
                    place.cgroups.push(cgroup.id);
                    self.scope
                        .insert(cgroup.id, place.index, 0)
                        .map_err(|source| map_error("SCOPE", source))?;
                }
                Found::Pid { .. } => place.processes = true,
            }
        }
        for named in processes {
            let Some(handle) = named.open() else {
                continue;
            };
            let scope = PidScope {
                container: named.id,
                pod: place.index,
                reserved: 0,
            };
            self.scope_pids
                .insert(named.pid, scope, 0)
                .map_err(|source| map_error("SCOPE_PIDS", source))?;
            // The kernel takes an id out when its process ends: it may have done so before.
            if pidfd::has_ended(&handle) {
                remove(&mut self.scope_pids, "SCOPE_PIDS", &named.pid)?;
            }
        }
        self.served[place.index as usize] = Some(place.clone());
        Ok(())
    }

    fn pin(&self, place: &Place, new: &NewMaps) -> Result<(), KernelError> {
        let Some(pins) = &self.pins else {
            return Ok(());
        };
        let folder = pins.pod(place.index, place.key);
        pins::make(&folder).map_err(|error| pins::failed(&folder, &error))?;
        let of_pod = OF_POD.iter().map(|(_, name)| (*name).to_owned());
        let banks = (0..)
            .zip(&new.banks)
            .map(|(n, bank)| (format!("bank{n}"), bank));
        for (name, map) in of_pod.zip(&new.of_pod).chain(banks) {
            let path = folder.join(name);
            map.pin(&path)
                .map_err(|error| pins::failed(&path, &error))?;
        }
        Ok(())
    }

    /// One cgroup, or process, is in the scope of one pod at a time.
    fn refuse_watched(&self, targets: &[Found]) -> Result<(), KernelError> {
        for target in targets {
            let taken = match target {
                Found::Cgroup(cgroup) => self.scope.get(&cgroup.id, 0).is_ok(),
                Found::Pid { pid, .. } => self.scope_pids.get(pid, 0).is_ok(),
            };
            if taken {
                return Err(KernelError::Watched(match target {
                    Found::Cgroup(cgroup) => format!("cgroup {}", cgroup.id),
                    Found::Pid { pid, .. } => format!("process {pid}"),
                }));
            }
        }
        Ok(())
    }

    fn free_index(&self) -> Result<u32, KernelError> {
        let free = self.served.iter().position(Option::is_none);
        free.map(|index| index as u32)
            .ok_or_else(|| KernelError::Full(format!("all {PODS} places are taken")))
    }

    fn free_banks(&self, wanted: u32) -> Result<u32, KernelError> {
        let mut taken: Vec<_> = self
            .served
            .iter()
            .flatten()
            .map(|place| place.first_bank..place.first_bank + place.banks)
            .collect();
        taken.sort_by_key(|range| range.start);
        let mut first = 0;
        for range in taken {
            if range.start - first >= wanted {
                break;
            }
            first = range.end;
        }
        if first + wanted <= BANKS as u32 {
            Ok(first)
        } else {
            let slots = wanted as usize * BANK_SLOTS;
            let reason = format!("no {slots} slots for threads are left");
            Err(KernelError::Full(reason))
        }
    }

    /// Takes the targets of a pod out of the scope; the caller has what was decided about threads
    /// forgotten before [`Pods::remove`].
    pub(super) fn out_of_scope(&mut self, index: u32) -> Result<(), KernelError> {
        let cgroups: Vec<u64> = self
            .scope
            .iter()
            .flatten()
            .filter(|(_, pod)| *pod == index)
            .map(|(cgroup, _)| cgroup)
            .collect();
        for cgroup in cgroups {
            remove(&mut self.scope, "SCOPE", &cgroup)?;
        }
        let pids: Vec<u32> = self
            .scope_pids
            .iter()
            .flatten()
            .filter(|(_, scope)| scope.pod == index)
            .map(|(pid, _)| pid)
            .collect();
        for pid in pids {
            remove(&mut self.scope_pids, "SCOPE_PIDS", &pid)?;
        }
        self.table
            .set(index, PodEntry::default(), 0)
            .map_err(|source| map_error("POD_TABLE", source))
    }

    /// Gives the room of a pod back.
    pub(super) fn remove(&mut self, index: u32) -> Result<(), KernelError> {
        let Some(place) = self.served.get(index as usize).cloned().flatten() else {
            return Ok(());
        };
        self.out_of_scope(index)?;
        self.clear(index)?;
        for bank in place.first_bank..place.first_bank + place.banks {
            self.slots.clear(bank)?;
            for slot in 0..BANK_SLOTS as u32 {
                remove(
                    &mut self.claims,
                    "CLAIMS",
                    &(bank * BANK_SLOTS as u32 + slot),
                )?;
            }
        }
        if let Some(pins) = &self.pins {
            pins.remove_pod(index, place.key)?;
        }
        self.served[index as usize] = None;
        Ok(())
    }

    fn clear(&mut self, index: u32) -> Result<(), KernelError> {
        self.of_pod
            .iter_mut()
            .try_for_each(|outer| outer.clear(index))
    }

    /// Takes over the pods that a broker before this one served. What is left of one that was
    /// being added or removed is removed.
    pub(super) fn adopt(&mut self) -> Result<Vec<Place>, KernelError> {
        let Some(pins) = self.pins.clone() else {
            return Ok(Vec::new());
        };
        let scope: Vec<(u64, u32)> = self.scope.iter().flatten().collect();
        let pids: Vec<u32> = self
            .scope_pids
            .iter()
            .flatten()
            .map(|(_, scope)| scope.pod)
            .collect();
        let mut broken = Vec::new();
        for (index, key) in pins.pods() {
            let entry = self.table.get(&index, 0).unwrap_or_default();
            let folder = pins.pod(index, key);
            let id = MapData::from_pin(folder.join("windows"))
                .and_then(|map| map.info())
                .map_or(0, |info| info.id());
            let place = Place {
                index,
                key,
                id,
                first_bank: entry.first_bank,
                banks: entry.slots / BANK_SLOTS as u32,
                cgroups: scope
                    .iter()
                    .filter(|(_, pod)| *pod == index)
                    .map(|(cgroup, _)| *cgroup)
                    .collect(),
                processes: pids.contains(&index),
            };
            let pinned = fs::read_dir(&folder).map_or(0, |entries| entries.count());
            let in_scope = place.processes || !place.cgroups.is_empty();
            if index as usize >= PODS || pinned != place.banks as usize + OF_POD.len() || !in_scope
            {
                broken.push((index, key));
            } else {
                self.served[index as usize] = Some(place);
            }
        }
        self.sweep(&broken)?;
        for (index, key) in broken {
            pins.remove_pod(index, key)?;
        }
        Ok(self.served.iter().flatten().cloned().collect())
    }

    /// Clears everything that belongs to no served pod. Maps are only left behind by the `broken`
    /// ones: where there is none, no place is emptied, for which kernels before 6.8 wait even when
    /// it is empty, and there are many.
    fn sweep(&mut self, broken: &[(u32, u64)]) -> Result<(), KernelError> {
        for index in 0..PODS as u32 {
            if self.served[index as usize].is_none() {
                self.out_of_scope(index)?;
                if broken.iter().any(|(other, _)| *other == index) {
                    self.clear(index)?;
                }
            }
        }
        let taken: Vec<_> = self
            .served
            .iter()
            .flatten()
            .map(|place| place.first_bank..place.first_bank + place.banks)
            .collect();
        let is_free = |bank: u32| !taken.iter().any(|range| range.contains(&bank));
        if !broken.is_empty() {
            for bank in (0..BANKS as u32).filter(|bank| is_free(*bank)) {
                self.slots.clear(bank)?;
            }
        }
        let stale: Vec<u32> = self
            .claims
            .keys()
            .flatten()
            .filter(|slot| is_free(slot / BANK_SLOTS as u32))
            .collect();
        for slot in stale {
            match self.claims.remove(&slot) {
                Err(error) if !is_missing(&error) => return Err(map_error("CLAIMS", error)),
                _ => {}
            }
        }
        Ok(())
    }
}
