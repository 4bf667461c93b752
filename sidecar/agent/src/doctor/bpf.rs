//! Harmless uses of `bpf(2)`: what they create is gone when they return.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use serde::Serialize;

/// How the kernel answered a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Granted,
    /// `EPERM` or `EACCES`.
    Refused,
    /// `ENOSYS`: there is no such call.
    NoSuchCall,
    /// Another error, in words.
    Failed(String),
}

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_RINGBUF: u32 = 27;
const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;

/// Start of the kernel's `union bpf_attr` for `BPF_MAP_CREATE`.
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

/// Start of the kernel's `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
}

/// Creates a map of one entry.
pub(super) fn create_map() -> Answer {
    map(&MapCreate {
        map_type: BPF_MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: 4,
        max_entries: 1,
    })
}

/// Creates a ring buffer of 64 KiB, a multiple of every page size.
pub(super) fn create_ring() -> Answer {
    map(&MapCreate {
        map_type: BPF_MAP_TYPE_RINGBUF,
        key_size: 0,
        value_size: 0,
        max_entries: 65536,
    })
}

/// Loads, without attaching it, a raw tracepoint program that returns 0.
pub(super) fn load_program() -> Answer {
    const RETURN_ZERO: [u64; 2] = [0xb7, 0x95];
    let attributes = ProgramLoad {
        program_type: BPF_PROG_TYPE_RAW_TRACEPOINT,
        instruction_count: 2,
        instructions: RETURN_ZERO.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
    };
    // SAFETY: the layout is that of the kernel's attributes; the pointers in it are to constants
    // of the stated lengths, which the kernel only reads.
    unsafe { call(BPF_PROG_LOAD, &attributes) }
}

fn map(attributes: &MapCreate) -> Answer {
    // SAFETY: the layout is that of the kernel's attributes and holds no pointers.
    unsafe { call(BPF_MAP_CREATE, attributes) }
}

/// # Safety
///
/// `command` creates an object that is handed out as a descriptor, and `attributes` has the layout
/// that the kernel reads for it, with valid pointers.
unsafe fn call<T>(command: libc::c_int, attributes: &T) -> Answer {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of `attributes`, which outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            &raw const *attributes,
            size_of::<T>() as libc::c_uint,
        )
    };
    if result < 0 {
        return answer(&io::Error::last_os_error());
    }
    // SAFETY: the call made this descriptor and nothing else owns it.
    let object = unsafe { OwnedFd::from_raw_fd(result as RawFd) };
    tracing::trace!(descriptor = object.as_raw_fd(), "bpf object created");
    Answer::Granted
}

fn answer(error: &io::Error) -> Answer {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => Answer::Refused,
        Some(libc::ENOSYS) => Answer::NoSuchCall,
        _ => Answer::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let of = |errno| answer(&io::Error::from_raw_os_error(errno));
        assert_eq!(of(libc::EPERM), Answer::Refused);
        assert_eq!(of(libc::EACCES), Answer::Refused);
        assert_eq!(of(libc::ENOSYS), Answer::NoSuchCall);
        assert!(matches!(of(libc::E2BIG), Answer::Failed(_)));
    }

    /// `EINVAL` is an answer of the kernel to a malformed request: the layouts must not give it.
    #[test]
    fn the_kernel_understands_the_requests() {
        for answer in [create_map(), create_ring(), load_program()] {
            assert!(!matches!(answer, Answer::Failed(_)), "{answer:?}");
        }
    }
}
