//! The binary: the library's command line with the bundled plugins.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    std::process::exit(odock_edge::cli::main_with(Vec::new()));
}
