//! The maps of one pod, made one by one: each is put into a map of maps of the programs.
//!
//! A kernel before 6.12 takes an inner map only if its type information says as much as that of
//! the template that the programs were loaded with, so arrays bring the sizes of their keys and
//! values as types of their own.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_map_type};

/// The kernel looks entries of such an inner map up by its own size, not that of its template.
pub const SIZED: u32 = 1 << 12;
const MMAPABLE: u32 = 1 << 10;

/// An array that can be mapped.
pub fn array<T>(name: &str, entries: u32, flags: u32) -> io::Result<OwnedFd> {
    let size = size_of::<T>() as u32;
    let types = load_types(&array_types(size))?;
    // SAFETY: plain integers, for which 0 is a value.
    let mut attributes: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the variant of `BPF_MAP_CREATE`, all of whose bytes are set.
    let map = unsafe { &mut attributes.__bindgen_anon_1 };
    map.map_type = bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
    map.key_size = size_of::<u32>() as u32;
    map.value_size = size;
    map.max_entries = entries;
    map.map_flags = MMAPABLE | flags;
    map.btf_fd = types.as_raw_fd() as u32;
    map.btf_key_type_id = KEY_TYPE;
    map.btf_value_type_id = VALUE_TYPE;
    set_name(&mut map.map_name, name);
    bpf(bpf_cmd::BPF_MAP_CREATE, &mut attributes)
}

/// A ring buffer of `bytes`.
pub fn ring(name: &str, bytes: u32) -> io::Result<OwnedFd> {
    // SAFETY: plain integers, for which 0 is a value.
    let mut attributes: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the variant of `BPF_MAP_CREATE`, all of whose bytes are set.
    let map = unsafe { &mut attributes.__bindgen_anon_1 };
    map.map_type = bpf_map_type::BPF_MAP_TYPE_RINGBUF as u32;
    map.max_entries = bytes;
    set_name(&mut map.map_name, name);
    bpf(bpf_cmd::BPF_MAP_CREATE, &mut attributes)
}

fn set_name(field: &mut [std::ffi::c_char], name: &str) {
    // The last byte stays 0.
    let room = field.len() - 1;
    for (to, from) in field.iter_mut().take(room).zip(name.bytes()) {
        *to = from as std::ffi::c_char;
    }
}

const KEY_TYPE: u32 = 1;
const VALUE_TYPE: u32 = 2;

/// Type information (Documentation/bpf/btf.rst of the Linux kernel) of a key of 4 bytes and a value
/// of `size`.
fn array_types(size: u32) -> Vec<u8> {
    const INTEGER: u32 = 1 << 24;
    const STRUCTURE: u32 = 4 << 24;
    const STRINGS: &[u8] = b"\0key\0value\0";
    const HEADER: u32 = 24;
    let types = [
        [1, INTEGER, 4, 32].as_slice(),
        [5, STRUCTURE, size].as_slice(),
    ]
    .concat();
    let type_bytes = size_of_val(types.as_slice()) as u32;
    let sections = [HEADER, 0, type_bytes, type_bytes, STRINGS.len() as u32];
    let mut bytes = Vec::new();
    bytes.extend(0xeb9f_u16.to_ne_bytes());
    bytes.extend([1, 0]);
    for word in sections.iter().chain(&types) {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(STRINGS);
    bytes
}

fn load_types(types: &[u8]) -> io::Result<OwnedFd> {
    // SAFETY: plain integers, for which 0 is a value.
    let mut attributes: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the variant of `BPF_BTF_LOAD`, all of whose bytes are set.
    let load = unsafe { &mut attributes.__bindgen_anon_7 };
    load.btf = types.as_ptr() as u64;
    load.btf_size = types.len() as u32;
    bpf(bpf_cmd::BPF_BTF_LOAD, &mut attributes)
}

/// A call of bpf(2) that gives a descriptor.
fn bpf(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: attributes of the size that is told; what they point at outlives the call.
    let made = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            std::ptr::from_mut(attributes),
            size_of::<bpf_attr>(),
        )
    };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that the kernel just made for this process.
    Ok(unsafe { OwnedFd::from_raw_fd(made as libc::c_int) })
}
