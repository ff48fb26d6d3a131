//! Compiles the bridges to LibTorch's record of its operations (`src/reads.cpp`,
//! `src/operations.cpp`), and to its dispatch of them (`src/rehearsal.cpp`).

use std::path::Path;

fn main() {
    let sources = ["src/reads.cpp", "src/operations.cpp", "src/rehearsal.cpp"];
    sources.iter().for_each(|source| println!("cargo:rerun-if-changed={source}"));
    // As in `networks`.
    let lib = std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys names LibTorch's folder");
    let include = Path::new(&lib).parent().expect("it has a parent").join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(1)
        .define("NDEBUG", None) // as LibTorch is built: its record of calls has other fields without
        .flag_if_supported("-w") // LibTorch's headers warn
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .files(sources)
        .compile("testing_bridge");
}
