//! Where programs keep the thread-local pointer of OTEP 4947: what is found from outside is what
//! the program itself finds.
#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, reason = "a step that fails ends the test")]

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use stethos::capture::{
    lookup::Lookup,
    node::Published,
    thread_context::{ThreadContext, TlsKind},
};
use stethos_tests::programs::compile_or_skip;

fn compile(test: &str, arguments: &[&str]) -> bool {
    compile_or_skip(test, "thread_context.c", arguments)
}

/// A program that ends with the test.
struct Running {
    child: Child,
    /// From the thread pointer, from the start of the block, and which block it is.
    offsets: (i64, i64, u64),
}

impl Running {
    fn start(program: &Path, words: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        let offsets: Vec<i64> = line
            .split_whitespace()
            .map(|word| word.parse().unwrap())
            .collect();
        let offsets = (offsets[0], offsets[1], offsets[2].cast_unsigned());
        Self { child, offsets }
    }

    fn found(&self) -> Option<ThreadContext> {
        let mut lookup = Lookup::new(&[], None, true);
        let first = lookup.published(self.child.id()).thread_context;
        // What is remembered is the same.
        assert_eq!(lookup.published(self.child.id()).thread_context, first);
        first
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_pointer_of_the_executable_lies_at_a_fixed_distance_from_the_thread_pointer() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("a program");
    for how in [&["-pie", "-fPIE"][..], &["-no-pie"]] {
        let output = ["-rdynamic", "-o", program.to_str().unwrap()];
        if !compile("a_pointer_of_the_executable", &[how, &output].concat()) {
            return;
        }
        let running = Running::start(&program, &[]);
        let expected = ThreadContext {
            module: program.to_str().unwrap().to_owned(),
            offset: running.offsets.0,
            kind: TlsKind::Static,
        };
        assert_eq!(running.found(), Some(expected), "{how:?}");
    }
}

#[test]
fn a_pointer_of_a_library_is_found_as_its_loader_reaches_it() {
    const TEST: &str = "a_pointer_of_a_library_is_found_as_its_loader_reaches_it";
    let folder = tempfile::tempdir().unwrap();
    let in_folder = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (library, program, opening) = (
        in_folder("libcontext.so"),
        in_folder("program"),
        in_folder("opening"),
    );
    for dialect in ["-mtls-dialect=gnu", "-mtls-dialect=gnu2"] {
        let shared = ["-shared", "-fPIC", dialect, "-DLIBRARY", "-o", &library];
        if !compile(TEST, &shared) {
            return;
        }
        let rpath = format!("-Wl,-rpath,{}", folder.path().display());
        let linked = ["-DELSEWHERE", "-o", &program, &library, &rpath];
        assert!(compile(TEST, &linked));
        assert!(compile(TEST, &["-DOPENED", "-o", &opening]));
        for running in [
            Running::start(Path::new(&program), &[]),
            Running::start(Path::new(&opening), &[&library]),
        ] {
            let (from_thread, in_block, module) = running.offsets;
            let found = running.found().unwrap();
            assert_eq!(found.module, library);
            let place = (found.kind, found.offset);
            // A loader may give a small library that is opened later room beside those of the start.
            let possible = [
                (TlsKind::Static, from_thread),
                (TlsKind::Dynamic(module), in_block),
            ];
            assert!(
                possible.contains(&place),
                "{dialect}: {place:?} {possible:?}"
            );
            if dialect == "-mtls-dialect=gnu" {
                assert_eq!(place, possible[1], "{dialect}");
            }
        }
    }
}

#[test]
fn a_program_without_the_pointer_has_none() {
    let published = Lookup::new(&[], None, true).published(std::process::id());
    assert_eq!(published, Published::default());
}
