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
    let ratios: Vec<f64> = MEASURED.iter().step_by(3).map(of).collect();
    assert!(ratios.iter().all(|&ratio| ratio >= 1.0), "{course:?}: better than the optimum: {ratios:?}");
    (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp()
}

#[test]
fn histories_take_at_most_a_tenth_more_than_the_optimum() {
    let found = COURSES.map(|course| ratio(course, Policy::Lower));
    println!("{COURSES:?}: {found:.3?} of the optimum");
    assert!(found.iter().sum::<f64>() <= 1.1 * COURSES.len() as f64, "{found:.3?}");
    // Who does not know that two branches will begin cannot put a reference where both need one.
    for (course, ratio) in COURSES.iter().zip(found) {
        assert!(ratio <= if *course == Course::Branches { 1.25 } else { 1.1 }, "{course:?}: {ratio:.3}");
    }
}

#[test]
fn a_delta_lower_down_the_chain_saves_a_seventh_of_long_histories() {
    let stored = |policy| -> f64 {
        let of = |measured| replay(&History::new(measured, Course::Slow, 300, 1), policy).stored as f64;
        MEASURED.iter().map(of).map(f64::ln).sum::<f64>() / MEASURED.len() as f64
    };
    let saved = 1.0 - (stored(Policy::Lower) - stored(Policy::Reference)).exp();
    println!("{saved:.3} less");
    assert!(saved > 1.0 / 7.0, "{saved:.3} less");
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
