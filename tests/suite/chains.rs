//! How far the policy of chains is from what was possible: a few histories of `benches/chains`.

#[path = "../../benches/chains/simulation.rs"]
mod simulation;

use simulation::{COURSES, Course, History, MEASURED, Policy, optimum, replay};

const VERSIONS: usize = 30;
const DEPTH_MAX: usize = 16;

/// The geometric mean of stored bytes over the optimum.
fn ratio(course: Course, policy: Policy) -> f64 {
    let of = |measured| {
        let history = History::new(measured, course, VERSIONS, 1);
        replay(&history, policy).stored as f64 / optimum(&history, DEPTH_MAX) as f64
    };
    let ratios: Vec<f64> = MEASURED.iter().map(of).collect();
    assert!(ratios.iter().all(|&ratio| ratio >= 1.0), "{course:?}: better than the optimum: {ratios:?}");
    (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp()
}

#[test]
fn histories_take_at_most_a_tenth_more_than_the_optimum() {
    for course in COURSES {
        let found = ratio(course, Policy::Lower);
        println!("{course:?}: {found:.3} of the optimum");
        assert!(found <= 1.1, "{course:?}: {found:.3}");
    }
}

#[test]
fn a_delta_lower_down_the_chain_is_what_saves_it() {
    let (lower, reference) = (ratio(Course::Uneven, Policy::Lower), ratio(Course::Uneven, Policy::Reference));
    assert!(lower * 1.1 < reference, "{lower:.3} and {reference:.3}");
}

#[test]
fn no_version_costs_a_cold_reader_more_than_the_bound() {
    for course in COURSES {
        for measured in MEASURED {
            let outcome = replay(&History::new(measured, course, 100, 1), Policy::Lower);
            assert!(outcome.cold_max_percent <= 125, "{}: {outcome:?}", measured.name);
        }
    }
}
