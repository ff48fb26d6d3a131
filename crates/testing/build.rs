//! Compiles the bridge to LibTorch's record of its operations (`src/reads.cpp`).

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=src/reads.cpp");
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
        .file("src/reads.cpp")
        .compile("testing_bridge");
}
