//! User registers of a system call, as `struct pt_regs` keeps them until it returns.

use aya_ebpf::helpers::bpf_probe_read_kernel;

/// The registers of a system call on x86-64 (`struct pt_regs`, fixed ABI).
#[cfg(bpf_target_arch = "x86_64")]
#[repr(C)]
pub struct PtRegs {
    before: [u64; 7],
    r10: u64,
    between: [u64; 4],
    rdx: u64,
    rsi: u64,
    rdi: u64,
    orig_rax: u64,
}

#[cfg(bpf_target_arch = "x86_64")]
impl PtRegs {
    pub const EXIT: i32 = 60;
    pub const EXIT_GROUP: i32 = 231;
    pub const RT_SIGRETURN: u32 = 15;

    /// The call's number, by a direct load from the trusted pointer.
    #[inline(always)]
    pub fn number(regs: *const Self) -> u32 {
        // SAFETY: a trusted `struct pt_regs` of a BTF tracepoint: the verifier allows loads.
        unsafe { (*regs).orig_rax as u32 }
    }

    #[inline(always)]
    pub fn first(regs: *const Self) -> u64 {
        // SAFETY: as in `number`.
        unsafe { (*regs).rdi }
    }

    #[inline(always)]
    pub fn first_three(regs: *const Self) -> [u64; 3] {
        // SAFETY: as in `number`.
        unsafe { [(*regs).rdi, (*regs).rsi, (*regs).rdx] }
    }

    #[inline(always)]
    pub fn fourth(regs: *const Self) -> u64 {
        // SAFETY: as in `number`.
        unsafe { (*regs).r10 }
    }

    /// Number and first argument of the call that the thread with these registers is inside, by
    /// checked reads; -1 for none.
    #[inline(always)]
    pub fn inside(regs: u64) -> Option<(i32, u64)> {
        let at = |member: usize| (regs as usize + member) as *const u64;
        // SAFETY: the helper checks both reads.
        unsafe {
            let nr = bpf_probe_read_kernel(at(core::mem::offset_of!(Self, orig_rax))).ok()?;
            let first = bpf_probe_read_kernel(at(core::mem::offset_of!(Self, rdi))).ok()?;
            Some((nr as i32, first))
        }
    }
}

/// The registers of a system call on arm64 (`struct user_pt_regs` and what follows). The first
/// argument's register holds the result by the time of the return; the kernel keeps the argument
/// in `orig_x0`.
#[cfg(bpf_target_arch = "aarch64")]
#[repr(C)]
pub struct PtRegs {
    regs: [u64; 31],
    sp: u64,
    pc: u64,
    pstate: u64,
    orig_x0: u64,
    syscallno: i32,
}

#[cfg(bpf_target_arch = "aarch64")]
impl PtRegs {
    pub const EXIT: i32 = 93;
    pub const EXIT_GROUP: i32 = 94;
    pub const RT_SIGRETURN: u32 = 139;

    /// The call's number, by a direct load from the trusted pointer.
    #[inline(always)]
    pub fn number(regs: *const Self) -> u32 {
        // SAFETY: a trusted `struct pt_regs` of a BTF tracepoint: the verifier allows loads.
        unsafe { (*regs).syscallno as u32 }
    }

    #[inline(always)]
    pub fn first(regs: *const Self) -> u64 {
        // SAFETY: as in `number`.
        unsafe { (*regs).orig_x0 }
    }

    #[inline(always)]
    pub fn first_three(regs: *const Self) -> [u64; 3] {
        // SAFETY: as in `number`.
        unsafe { [(*regs).orig_x0, (*regs).regs[1], (*regs).regs[2]] }
    }

    #[inline(always)]
    pub fn fourth(regs: *const Self) -> u64 {
        // SAFETY: as in `number`.
        unsafe { (*regs).regs[3] }
    }

    /// Number and first argument of the call that the thread with these registers is inside, by
    /// checked reads; -1 for none.
    #[inline(always)]
    pub fn inside(regs: u64) -> Option<(i32, u64)> {
        // SAFETY: the helper checks both reads.
        unsafe {
            let nr = (regs as usize + core::mem::offset_of!(Self, syscallno)) as *const i32;
            let first = (regs as usize + core::mem::offset_of!(Self, orig_x0)) as *const u64;
            Some((
                bpf_probe_read_kernel(nr).ok()?,
                bpf_probe_read_kernel(first).ok()?,
            ))
        }
    }
}
