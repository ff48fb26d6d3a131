//! The library, used as another program would use it.

mod common;

use common::{SMALL, repeatable, stderr};
use runner::train::run_spec::RunSpec;
use runner::train::settings::{Sources, resolve};

#[test]
fn the_library_trains_the_run_that_the_program_trains() {
    let out = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let output = common::train(out[0].path(), "Hopper-v4", 7, &["--algo", "sac"]);
    assert!(output.status.success(), "{}", stderr(&output));

    let set: Vec<String> =
        SMALL.iter().filter(|word| **word != "--set").map(|s| s.to_string()).collect();
    let sources = Sources {
        algo: "sac",
        env: "Hopper-v4",
        preset: "default",
        set: &set,
        steps: Some(300),
        ..Sources::default()
    };
    // Another run in the same process changes nothing.
    for seed in [6, 7] {
        let spec = RunSpec {
            out: out[1].path().into(),
            ..RunSpec::new("sac", "Hopper-v4", seed, resolve(&sources).unwrap())
        };
        runner::train::run(&spec.checked().unwrap()).unwrap();
    }
    let [program, library] =
        out.each_ref().map(|out| repeatable(&out.path().join("sac/Hopper-v4/seed-7")));
    assert!(program == library, "the runs differ");
}
