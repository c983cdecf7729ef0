//! A check that may repair beside a push, under a scheduler.

use super::*;
use crate::transfer::tests::schedule::{Deed, assert_kept, stored};

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
