//! Checks and repairs beside a push, under a scheduler.

use super::*;
use crate::threads::tests::with_only;
use crate::transfer::tests::schedule::{Deed, assert_kept, assert_needed, stored};

fn read_and_repair(transfer: &Transfer) -> Result<Report> {
    let request = Request { data: Some(Subset::default()), repair: true, ..Request::default() };
    verify(transfer, &request, &|_| ())
}

#[test]
fn everything_is_read_where_the_system_refuses_threads() {
    let request = Request { data: Some(Subset::default()), ..Request::default() };
    let is_read = |transfer: &Transfer| {
        let check = |threads| with_only(threads, || verify(transfer, &request, &|_| ()));
        [0, 1].into_iter().all(|threads| check(threads).expect("a report").read == 2)
    };
    assert_kept(&stored(2, 2), &[Deed::Other(&is_read)]);
}

#[test]
fn a_check_beside_a_push_gives_no_alarm() {
    let is_sound = |transfer: &Transfer| {
        let report = read_and_repair(transfer).expect("a report");
        report.findings.is_empty() && report.repaired == Repaired::default()
    };
    assert_kept(&stored(3, 1), &[Deed::Push(2), Deed::Other(&is_sound)]);
}

/// The push has the base at hand and does not see that its copy's base is damaged; the repair has no object at all. Either
/// the push sees the tombstone of its base after the PUT, or the repair sees the delta in the listing after the tombstone
/// and condemns it, too: then the next push stores it again. Without the look the machine remembers as settled what
/// nobody can restore.
#[test]
fn without_a_look_after_the_put_what_a_repair_gave_up_is_taken_for_stored() {
    let world = stored(3, 2);
    world.damage(0);
    let works = |transfer: &Transfer| read_and_repair(transfer).is_ok();
    assert_needed(&world, "R4c", &[Deed::PushTwice(2), Deed::Other(&works)]);
}
