//! Resets and steps do not allocate. A separate file, because it replaces the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use envs::{Batch, BatchStep, Env, ids, models_dir};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is forwarded unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The built-in tasks, and some that are files.
fn tasks() -> Vec<String> {
    let files = ["cheetah-run", "finger-spin", "humanoid-run", "quadruped-run"];
    let path = |name| models_dir().join(format!("dm_control/{name}.toml")).display().to_string();
    ids().map(str::to_owned).chain(files.map(path)).collect()
}

#[test]
fn resets_and_steps_do_not_allocate() {
    for id in &tasks() {
        let mut env = Env::make(id).unwrap();
        let mut observation = vec![0.0; env.spec().obs_dim];
        let action = vec![0.3; env.spec().act_dim];
        env.reset(Some(0), &mut observation);

        let before = ALLOCATIONS.get();
        for _ in 0..200 {
            let step = env.step(&action, &mut observation).unwrap();
            if step.terminated || step.truncated {
                env.reset(None, &mut observation);
            }
        }
        assert_eq!(ALLOCATIONS.get() - before, 0, "{id}");
    }
}

#[test]
fn resets_and_steps_of_batches_do_not_allocate() {
    for id in &tasks() {
        for threads in [1, 2] {
            let mut batch = Batch::make(id, 3, threads).unwrap();
            let mut obs = vec![0.0; 3 * batch.spec().obs_dim];
            let actions = vec![0.3; 3 * batch.spec().act_dim];
            let mut steps = [BatchStep::default(); 3];
            let active = [true, false, true];

            let before = ALLOCATIONS.get();
            batch.reset(None, &mut obs).unwrap();
            for _ in 0..100 {
                batch.step(&actions, &mut steps, &mut obs).unwrap();
                batch.step_active(&active, &actions, &mut steps, &mut obs).unwrap();
            }
            assert_eq!(ALLOCATIONS.get() - before, 0, "{id}, {threads} threads");
        }
    }
}
