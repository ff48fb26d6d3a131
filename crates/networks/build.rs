//! Compiles the bridges to LibTorch's autograd (`src/node.cpp`), to the storage of its tensors
//! (`src/storage.cpp`) and to its CUDA graphs (`src/cuda_graph.cpp`).

use std::path::Path;

fn main() {
    let sources = ["src/node.cpp", "src/storage.cpp", "src/cuda_graph.cpp"];
    sources.iter().for_each(|source| println!("cargo:rerun-if-changed={source}"));
    // `torch-sys` says where it found LibTorch; headers lie beside the libraries.
    let lib = std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys names LibTorch's folder");
    let include = Path::new(&lib).parent().expect("it has a parent").join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(1) // a few calls a network: compiling fast is worth more
        .flag_if_supported("-w") // LibTorch's headers warn
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .files(sources)
        .compile("networks_bridge");
}
