//! Says which span a thread works for, as OTEP 4947 has it: a thread-local pointer to a record of the
//! request, set while its work runs. It is found in programs that export the symbol (`build.rs`).

use std::{
    pin::{Pin, pin},
    task::{Context, Poll},
};

// A thread-local variable under a name that others find: the compiler has no stable way to make one.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".section .tbss,\"awT\",@nobits",
    ".globl otel_thread_ctx_v1",
    ".type otel_thread_ctx_v1, @object",
    ".size otel_thread_ctx_v1, 8",
    ".balign 8",
    "otel_thread_ctx_v1:",
    ".zero 8",
    ".text",
);

/// The record of one request.
#[repr(C)]
#[derive(Clone, Copy)]
struct Record {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    valid: u8,
    flags: u8,
    attributes: u16,
}

pub struct Published(Box<Record>);

impl Published {
    pub fn new(trace_id: [u8; 16], span_id: [u8; 8]) -> Self {
        Self(Box::new(Record {
            trace_id,
            span_id,
            valid: 1,
            flags: 1,
            attributes: 0,
        }))
    }

    /// Does something under the span.
    pub fn within<T>(&mut self, work: impl FnOnce() -> T) -> T {
        self.attach();
        let done = work();
        set(std::ptr::null());
        done
    }

    /// Works under the span from now on, until another one is attached. This has to live as long.
    pub fn attach(&mut self) {
        set(&raw const *self.0);
    }

    /// The same with a task: each time that it goes on, on whichever thread.
    pub async fn during<T>(self, work: impl Future<Output = T>) -> T {
        Under {
            published: self,
            work: pin!(work),
        }
        .await
    }
}

struct Under<'a, F> {
    published: Published,
    work: Pin<&'a mut F>,
}

impl<F: Future> Future for Under<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        this.published.within(|| this.work.as_mut().poll(context))
    }
}

#[cfg(target_arch = "x86_64")]
fn set(record: *const Record) {
    // SAFETY: a pointer of this thread, which nobody else writes.
    unsafe {
        std::arch::asm!(
            "mov qword ptr fs:[otel_thread_ctx_v1@TPOFF], {record}",
            record = in(reg) record,
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn set(_record: *const Record) {}
