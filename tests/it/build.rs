//! Each instruction, by what it leaves in the tree, in the configuration and in the history.

use crate::base::busybox;
use crate::harness::World;

#[test]
fn run_sees_what_earlier_steps_left() {
    let world = World::new();
    let tree =
        world.build(&format!("FROM {}\nRUN echo one > /x\nRUN cat /x > /y && rm /x", busybox())).tree();
    assert!(tree.has("/y") && !tree.has("/x"));
}
