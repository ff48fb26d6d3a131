//! Acting does not allocate. A separate file, because it replaces the allocator.

use policy::{Graph, Op, Policy};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

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

#[test]
fn acting_and_refusing_do_not_allocate() {
    let mut graph = Graph { inputs: [11, 3, 3], ..Graph::default() };
    let (weights, bias) = (graph.tensor(vec![0.1; 14 * 3]), graph.tensor(vec![0.2; 3]));
    let input = graph.push(Op::Concat(0, 1));
    let layer = graph.push(Op::Affine(input, weights, bias));
    let layer = graph.push(Op::Mish(layer));
    let noisy = graph.push(Op::Add(layer, 2));
    graph.push(Op::Tanh(noisy));
    let mut policy = Policy::new(graph).unwrap();
    let (obs, noise, mut actions) = ([0.5; 11], [0.5; 3], [0.0; 3]);

    let before = ALLOCATIONS.get();
    for _ in 0..100 {
        policy.act(&obs, Some(&noise), Some(&noise), &mut actions).unwrap();
        policy.act(&obs, None, None, &mut actions).unwrap();
        assert!(policy.act(&obs[1..], None, None, &mut actions).is_err());
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
}
