//! Maps of the programs as user space holds them.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use aya::{
    Ebpf,
    maps::{ArrayOfMaps, HashMap, Map, MapData, MapError},
};
use memmap2::{MmapOptions, MmapRaw};
use stethos_events::DECISIONS;

use super::{
    KernelError,
    error::{chain, map_error},
    pins::Pins,
};
use crate::capture::inner_maps;

/// Where maps are taken from.
pub(super) enum Source<'a> {
    Loaded(&'a mut Ebpf),
    Pinned(&'a Pins),
}

impl Source<'_> {
    pub(super) fn map(&mut self, name: &'static str) -> Result<Map, KernelError> {
        match self {
            Source::Loaded(ebpf) => ebpf.take_map(name).ok_or(KernelError::NoMap(name)),
            Source::Pinned(pins) => MapData::from_pin(pins.map(name))
                .and_then(Map::from_map_data)
                .map_err(|source| map_error(name, source)),
        }
    }

    pub(super) fn take<M: TryFrom<Map, Error = MapError>>(
        &mut self,
        name: &'static str,
    ) -> Result<M, KernelError> {
        self.map(name)?
            .try_into()
            .map_err(|source| map_error(name, source))
    }

    /// The decisions, mapped: they are cleared as a whole.
    pub(super) fn decisions(&mut self) -> Result<(Map, MmapRaw), KernelError> {
        const NAME: &str = "DECISIONS_BY_TID";
        let map = self.map(NAME)?;
        let Map::Array(data) = &map else {
            return Err(KernelError::NoMap(NAME));
        };
        let mapped = MmapOptions::new()
            .len(DECISIONS * size_of::<u64>())
            .map_raw(&data.fd().as_fd())
            .map_err(|error| KernelError::Create {
                what: "mapping of the decisions",
                reason: error.to_string(),
            })?;
        Ok((map, mapped))
    }
}

/// A map of maps.
pub(super) struct Outer {
    name: &'static str,
    map: ArrayOfMaps<MapData, MapData>,
    fd: OwnedFd,
}

impl Outer {
    pub(super) fn take(source: &mut Source<'_>, name: &'static str) -> Result<Self, KernelError> {
        let map = source.map(name)?;
        let Map::ArrayOfMaps(data) = &map else {
            return Err(KernelError::NoMap(name));
        };
        let fd = data
            .fd()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| KernelError::Load(format!("map {name}: {error}")))?;
        let map = map.try_into().map_err(|source| map_error(name, source))?;
        Ok(Self { name, map, fd })
    }

    /// Returns once no program uses what stood there before.
    pub(super) fn set(&mut self, index: u32, inner: &MapData) -> Result<(), KernelError> {
        self.map
            .set(index, inner, 0)
            .map_err(|source| map_error(self.name, source))
    }

    /// Takes a map out; returns once no program uses it. The kernel frees it when nobody holds it
    /// any more.
    pub(super) fn clear(&mut self, index: u32) -> Result<(), KernelError> {
        #[repr(C)]
        struct DeleteElement {
            map: u32,
            reserved: u32,
            key: u64,
            value: u64,
            flags: u64,
        }
        const MAP_DELETE_ELEM: libc::c_int = 3;
        let attributes = DeleteElement {
            map: self.fd.as_raw_fd() as u32,
            reserved: 0,
            key: (&raw const index) as u64,
            value: 0,
            flags: 0,
        };
        // SAFETY: attributes of the size that is told, with a key that lives as long as the call.
        let refused = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                MAP_DELETE_ELEM,
                &raw const attributes,
                size_of::<DeleteElement>(),
            )
        };
        let error = std::io::Error::last_os_error();
        if refused == 0 || error.raw_os_error() == Some(libc::ENOENT) {
            Ok(())
        } else {
            Err(KernelError::Load(format!("map {}: {error}", self.name)))
        }
    }
}

pub(super) fn ring(name: &'static str, bytes: u32) -> Result<MapData, KernelError> {
    made(name, inner_maps::ring(name, bytes))
}

/// How far the holder of a map's descriptor may go.
#[derive(Clone, Copy)]
pub(super) enum Access {
    /// Only read: programs rely on what stands in it.
    Read,
    Write,
}

/// An array that can be mapped.
pub(super) fn array<T>(
    name: &'static str,
    entries: u32,
    access: Access,
    flags: u32,
) -> Result<MapData, KernelError> {
    let map = made(name, inner_maps::array::<T>(name, entries, flags))?;
    if let Access::Read = access {
        freeze(name, &map)?;
    }
    Ok(map)
}

/// From now on programs alone write the map: user space can neither update nor map it for writing.
fn freeze(name: &'static str, map: &MapData) -> Result<(), KernelError> {
    const MAP_FREEZE: libc::c_int = 22;
    let attributes = map.fd().as_fd().as_raw_fd() as u32;
    // SAFETY: attributes of the size that is told.
    let refused = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            MAP_FREEZE,
            &raw const attributes,
            size_of::<u32>(),
        )
    };
    match refused {
        0 => Ok(()),
        _ => Err(KernelError::Create {
            what: name,
            reason: format!("freezing: {}", std::io::Error::last_os_error()),
        }),
    }
}

fn made(name: &'static str, map: std::io::Result<OwnedFd>) -> Result<MapData, KernelError> {
    let failed = |reason| KernelError::Create { what: name, reason };
    let map = map.map_err(|error| failed(error.to_string()))?;
    MapData::from_fd(map).map_err(|error| failed(chain(&error)))
}

/// A descriptor of the map that can be handed on.
pub(super) fn descriptor(map: &MapData) -> Result<OwnedFd, KernelError> {
    map.fd()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| KernelError::Load(error.to_string()))
}

/// Removes an entry; one that is not there is no error.
pub(super) fn remove<K: aya::Pod, V: aya::Pod>(
    table: &mut HashMap<MapData, K, V>,
    name: &'static str,
    key: &K,
) -> Result<(), KernelError> {
    match table.remove(key) {
        Err(error) if !is_missing(&error) => Err(map_error(name, error)),
        _ => Ok(()),
    }
}

pub(super) fn is_missing(error: &MapError) -> bool {
    match error {
        MapError::KeyNotFound => true,
        MapError::SyscallError(error) => error.io_error.raw_os_error() == Some(libc::ENOENT),
        _ => false,
    }
}
