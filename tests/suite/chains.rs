//! How far the policy of chains is from what was possible: a few histories of `benches/chains`.

#[path = "../../benches/chains/simulation.rs"]
mod simulation;

use simulation::{COURSES, Course, History, MEASURED, Policy, depth_max, optimum, replay};

const VERSIONS: usize = 30;

/// The geometric mean of stored bytes over the optimum, of all corpora.
fn ratio(course: Course) -> f64 {
    let of = |measured: &simulation::Measured| {
        let history = History::new(measured, course, VERSIONS);
        replay(&history, Policy::Lower).stored as f64 / optimum(&history, depth_max(history.work)) as f64
    };
    let ratios: Vec<f64> = MEASURED.iter().map(of).collect();
    assert!(ratios.iter().all(|&ratio| ratio >= 1.0), "{course:?}: better than the optimum: {ratios:?}");
    (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp()
}

#[test]
fn histories_take_hardly_more_than_the_optimum() {
    for course in COURSES {
        let ratio = ratio(course);
        println!("{course:?}: {ratio:.3} of the optimum");
        // Who does not know that two branches will begin cannot put a reference where both need one.
        let most = if course == Course::Branches { 1.13 } else { 1.03 };
        assert!(ratio <= most, "{course:?}: {ratio:.3}");
    }
}

#[test]
fn a_delta_lower_down_the_chain_saves_a_seventh_of_long_histories() {
    let stored = |policy| -> f64 {
        let of = |measured| replay(&History::new(measured, Course::Slow, 300), policy).stored as f64;
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
            let outcome = replay(&History::new(measured, course, 100), Policy::Lower);
            assert!(outcome.cold_max_percent <= 125, "{}: {outcome:?}", measured.name);
        }
    }
}
