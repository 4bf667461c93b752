//! Programs that publish contexts export the symbol by which they are found.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for program in ["join-server", "bench-publisher"] {
        println!(
            "cargo:rustc-link-arg-bin={program}=-Wl,--export-dynamic-symbol=otel_thread_ctx_v1"
        );
    }
}
