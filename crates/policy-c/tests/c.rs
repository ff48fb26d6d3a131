//! Programs in C and C++ by the system's compiler, on the library that `cargo` built.

use policy::{Graph, Op, Policy};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A policy with a layer wider than a vector register, a latent and noise.
fn graph() -> Graph {
    let (obs, act, width) = (5_u32, 2_u32, 40_u32);
    let mut state = 1_u32;
    let mut numbers = |n: u32| -> Vec<f32> {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next()).collect()
    };
    let mut g = Graph { inputs: [obs, act, act], ..Graph::default() };
    let x = g.push(Op::Concat(0, 1));
    let (w, b) = (g.tensor(numbers((obs + act) * width)), g.tensor(numbers(width)));
    let x = g.push(Op::Affine(x, w, b));
    let x = g.push(Op::Mish(x));
    let (w, b) = (g.tensor(numbers(width * act)), g.tensor(numbers(act)));
    let x = g.push(Op::Affine(x, w, b));
    let x = g.push(Op::Add(x, 2));
    g.push(Op::Tanh(x));
    g
}

/// The folder of the libraries: that of this test's build.
fn libraries() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().to_owned()
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Compiles and runs `program.c`; returns what it printed.
fn run(compiler: &str, options: &[&str], link: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (program, policy) = (folder.path().join("program"), folder.path().join("policy.smfp"));
    std::fs::write(&policy, graph().to_bytes()).unwrap();
    let mut compile = Command::new(compiler);
    compile.args(options).args(["-Wall", "-Wextra", "-Werror", "-g", "-I"]).arg(here("include"));
    compile.arg(here("tests/program.c")).arg("-o").arg(&program);
    let done = compile.args(link).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let mut running = Command::new(&program)
        .arg(&policy)
        .env("LD_LIBRARY_PATH", libraries())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let bytes: Vec<u8> = inputs().iter().flatten().flat_map(|x| x.to_le_bytes()).collect();
    running.stdin.take().unwrap().write_all(&bytes).unwrap();
    let done = running.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && errors.is_empty(), "{errors}");
    String::from_utf8(done.stdout).unwrap()
}

/// An observation, z and xi, one after the other, each time.
fn inputs() -> Vec<Vec<f32>> {
    (0..50).map(|i| (0..9).map(|j| ((i * 9 + j) as f32).sin() * 3.0).collect()).collect()
}

/// What the program has to print.
fn expected() -> String {
    let mut policy = Policy::new(graph()).unwrap();
    let mut text = String::new();
    for input in inputs() {
        for noise in [false, true] {
            let mut actions = [0.0; 2];
            let (z, xi) = (&input[5..7], &input[7..]);
            let (z, xi) = (noise.then_some(z), noise.then_some(xi));
            policy.act(&input[..5], z, xi, &mut actions).unwrap();
            text.extend(actions.iter().map(|x| format!("{:08x}\n", x.to_bits())));
        }
    }
    text
}

fn static_library() -> String {
    libraries().join("libsmfp_policy.a").display().to_string()
}

#[test]
fn a_c_program_gets_the_runtimes_bits_and_a_code_for_each_wrong_call() {
    let link = [&static_library()[..], "-lm", "-lpthread", "-ldl"];
    let strict = ["-std=c99", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover"];
    assert_eq!(run("cc", &strict, &link), expected());
}

#[test]
fn a_program_on_the_shared_library_does_too_and_the_header_is_cpp_as_well() {
    let folder = libraries().display().to_string();
    let found = run("cc", &["-std=c11"], &["-L", &folder, "-lsmfp_policy"]);
    assert_eq!(found, expected());
    let done = Command::new("c++")
        .args(["-std=c++11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c++"])
        .arg(here("include/smfp_policy.h"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
