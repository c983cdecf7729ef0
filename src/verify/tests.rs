//! Checks and repairs beside a push, under a scheduler, in every order.

use super::*;
use crate::transfer::tests::schedule::{Deed, assert_kept, assert_needed, stored};

fn read_and_repair(transfer: &Transfer) -> Result<Report> {
    let request = Request { data: Some(Subset::default()), repair: true, ..Request::default() };
    verify(transfer, &request, &|_| ())
}

#[test]
fn a_check_beside_a_push_gives_no_alarm() {
    let is_sound = |transfer: &Transfer| {
        let report = read_and_repair(transfer).expect("a report");
        report.findings.is_empty() && report.repaired == Repaired::default()
    };
    assert_kept(&stored(3, 1), &[Deed::Push(2), Deed::Other(&is_sound)]);
}

#[test]
fn without_a_look_after_the_put_a_delta_is_built_on_what_a_repair_condemns() {
    let world = stored(3, 2);
    world.damage(0);
    let works = |transfer: &Transfer| read_and_repair(transfer).is_ok();
    assert_needed(&world, "R4c", &[Deed::Push(2), Deed::Other(&works)]);
}
