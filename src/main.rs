//! The `regent` program.

// musl's own allocator is slow; glibc's is as fast as any here (measured in tests/bench).
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    regent::cli::main()
}
