//! The error numbers that diagnosis knows by name (the same on x86-64 and aarch64).

pub(crate) const EPERM: u8 = 1;
pub(crate) const ENOENT: u8 = 2;
pub(crate) const EIO: u8 = 5;
pub(crate) const EAGAIN: u8 = 11;
pub(crate) const ENOMEM: u8 = 12;
pub(crate) const EACCES: u8 = 13;
pub(crate) const ENFILE: u8 = 23;
pub(crate) const EMFILE: u8 = 24;
pub(crate) const EFBIG: u8 = 27;
pub(crate) const ENOSPC: u8 = 28;
pub(crate) const EROFS: u8 = 30;
pub(crate) const EPIPE: u8 = 32;
pub(crate) const EADDRINUSE: u8 = 98;
pub(crate) const EADDRNOTAVAIL: u8 = 99;
pub(crate) const ENETDOWN: u8 = 100;
pub(crate) const ENETUNREACH: u8 = 101;
pub(crate) const ECONNABORTED: u8 = 103;
pub(crate) const ECONNRESET: u8 = 104;
pub(crate) const ETIMEDOUT: u8 = 110;
pub(crate) const ECONNREFUSED: u8 = 111;
pub(crate) const EHOSTDOWN: u8 = 112;
pub(crate) const EHOSTUNREACH: u8 = 113;
pub(crate) const EINPROGRESS: u8 = 115;
pub(crate) const EDQUOT: u8 = 122;

/// The other side broke the connection off.
pub(crate) fn is_broken_off(errno: u8) -> bool {
    matches!(errno, ECONNRESET | EPIPE | ECONNABORTED)
}
