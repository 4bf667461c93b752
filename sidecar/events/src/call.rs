//! One call: what is done at it, what is recorded of it, and classes of durations.

#[cfg(feature = "user")]
use bytemuck::{Pod, Zeroable};

/// What the programs do at a call: bits of `CALL_CLASS[nr]`, written by user space.
pub mod class {
    /// The call waits: the thread's window ends before it.
    pub const WAIT: u32 = 1 << 0;
    /// The first argument is a descriptor.
    pub const DESCRIPTOR: u32 = 1 << 1;
    /// The first argument is a path; shipped when the call fails.
    pub const PATH_0: u32 = 1 << 2;
    /// The second argument is a path; shipped when the call fails.
    pub const PATH_1: u32 = 1 << 3;
    /// The second argument is a socket address, the third its length; shipped always.
    pub const ADDRESS_1: u32 = 1 << 4;
    /// The second argument is a buffer that was filled (`ret` bytes).
    pub const READ: u32 = 1 << 5;
    /// The second argument is a buffer that was sent (`ret` bytes).
    pub const WRITE: u32 = 1 << 6;
    /// With `READ` or `WRITE`: the second argument is an array of `iovec`.
    pub const VECTOR: u32 = 1 << 7;
    /// With `READ` or `WRITE`: the second argument is a `msghdr`.
    pub const MESSAGE: u32 = 1 << 8;
    /// `exit` or `exit_group`: the first argument is the exit code.
    pub const EXIT: u32 = 1 << 9;
    /// With `PATH_0` or `PATH_1`: shipped when the call succeeds, too.
    pub const OPEN: u32 = 1 << 10;
    /// Gives a descriptor of a file.
    pub const MAKE_FILE: u32 = 1 << 11;
    /// Gives a descriptor that is neither a file nor a connection.
    pub const MAKE_OTHER: u32 = 1 << 12;
    /// Gives a descriptor of an accepted connection.
    pub const ACCEPT: u32 = 1 << 13;
    pub const LISTEN: u32 = 1 << 14;
    pub const CONNECT: u32 = 1 << 15;
    pub const CLOSE: u32 = 1 << 16;
    /// Gives a copy of its descriptor.
    pub const DUPLICATE: u32 = 1 << 17;
    /// Receives from its descriptor.
    pub const RECEIVE: u32 = 1 << 18;
    /// Sends through its descriptor.
    pub const SEND: u32 = 1 << 19;
    /// Succeeds on files only.
    pub const FILE_WORK: u32 = 1 << 20;
    /// `fcntl`: gives a copy of its descriptor when its second argument says so.
    pub const CONTROL: u32 = 1 << 21;
    /// `getsockopt`: hands out the error of its socket when its arguments say so.
    pub const SOCKET_ERROR: u32 = 1 << 22;
    /// All calls that the table of descriptors follows.
    pub const FOLLOWED: u32 = MAKE_FILE
        | MAKE_OTHER
        | ACCEPT
        | LISTEN
        | CONNECT
        | CLOSE
        | DUPLICATE
        | RECEIVE
        | SEND
        | FILE_WORK
        | CONTROL;
}

/// Bits of `CallRecord::flags`.
pub mod flag {
    /// Never returned: the thread ended inside it.
    pub const NO_RETURN: u8 = 1 << 0;
    /// The thread's first: how long it waited is not known.
    pub const FIRST: u8 = 1 << 1;
    /// `fd` holds a descriptor.
    pub const DESCRIPTOR: u8 = 1 << 2;
    /// Counted in a `CountRow`.
    pub const COUNTED: u8 = 1 << 3;
}

/// One finished call.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct CallRecord {
    /// When it returned.
    pub exit_ns: u64,
    /// How long the thread was off the processor of its own accord since its call before this
    /// one returned: neither running nor ready to run. Calls that do not wait have 0.
    pub waited_ns: u64,
    /// What it returned. A `getsockopt` that handed out an error of its socket has that error:
    /// it is how a call before it went that did not wait.
    pub ret: i64,
    /// First argument, cut to 32 bits; a descriptor when the flag says so.
    pub fd: i32,
    pub nr: u16,
    /// `duration_class(waited_ns)`.
    pub class: u8,
    /// Bits of `flag`.
    pub flags: u8,
}

/// Class of a duration: 0 for none, 1 below 1 024 ns, then four classes an octave, 217 at most.
#[inline(always)]
pub const fn duration_class(ns: u64) -> u8 {
    if ns == 0 {
        return 0;
    }
    if ns < 1024 {
        return 1;
    }
    let octave = 63 - ns.leading_zeros() as u64;
    let quarter = (ns >> (octave - 2)) & 3;
    // The last octave of 64 bits is 53 octaves above the first: 2 + 4 * 53 + 3 = 217.
    (2 + (octave - 10) * 4 + quarter) as u8
}

/// The shortest duration of a class, in ns.
pub const fn class_floor(class: u8) -> u64 {
    match class {
        0 => 0,
        1 => 1,
        218.. => u64::MAX,
        _ => {
            let (octave, quarter) = ((class as u64 - 2) / 4, (class as u64 - 2) % 4);
            (4 + quarter) << (octave + 8)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_durations_are_in_order_and_begin_where_they_say() {
        assert_eq!(
            [0, 1, 1023, 1024, 1280].map(duration_class),
            [0, 1, 1, 2, 3]
        );
        assert_eq!(duration_class(u64::MAX), 217);
        for class in 1..=217 {
            let floor = class_floor(class);
            assert_eq!(duration_class(floor), class);
            assert_eq!(duration_class(floor - 1), class - 1);
        }
    }
}
