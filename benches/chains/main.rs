//! What the policy of chains stores and costs, and the least that was possible: the tables of `docs/chains.md`.
//!
//! `cargo bench --bench chains [-- VERSIONS ...]`: histories of so many versions, 30, 100 and 300 unless said otherwise.

use simulation::{COURSES, Course, History, MEASURED, Outcome, Policy, depth_max, optimum, replay};

mod simulation;

fn main() {
    let counts: Vec<usize> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let counts = if counts.is_empty() { vec![30, 100, 300] } else { counts };
    for count in counts {
        println!("\n### {count} versions\n");
        println!(
            "| course | policy | stored / optimum | worst | stored % of the objects | cold read % of a whole copy | \
             warm read % of a whole copy | links of a cold read | encodes per version |"
        );
        println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
        for course in COURSES {
            print_course(course, count);
        }
    }
}

/// The dynamic program takes the fifth power of this: a minute for all histories of 100 versions.
const OPTIMUM_VERSIONS_MAX: usize = 100;

/// One line for each policy: means over all corpora.
fn print_course(course: Course, count: usize) {
    let all: Vec<_> = MEASURED.iter().map(|one| (one.name, History::new(one, course, count))).collect();
    let least: Option<Vec<u64>> = (count <= OPTIMUM_VERSIONS_MAX)
        .then(|| all.iter().map(|(_, history)| optimum(history, depth_max(history.work))).collect());
    for policy in [Policy::Whole, Policy::Reference, Policy::Lower] {
        let outcomes: Vec<Outcome> = all.iter().map(|(_, history)| replay(history, policy)).collect();
        let versions = count as f64;
        let mean = |value: &dyn Fn(&Outcome, &History) -> f64| {
            let sum: f64 = outcomes.iter().zip(&all).map(|(one, (_, history))| value(one, history)).sum();
            sum / outcomes.len() as f64
        };
        println!(
            "| {course:?} | {policy:?} | {} | {:.2} | {:.0} | {:.1} | {:.1} | {:.2} |",
            least.as_ref().map_or_else(|| "– | –".into(), |least| ratios(&all, &outcomes, least)),
            mean(&|one, history| one.stored as f64 / (history.size as f64 * versions) * 100.0),
            mean(&|one, history| one.cold as f64 / (history.whole as f64 * versions) * 100.0),
            mean(&|one, history| one.warm as f64 / (history.whole as f64 * versions) * 100.0),
            mean(&|one, _| one.links as f64 / versions),
            mean(&|one, _| one.encodes as f64 / versions),
        );
    }
}

/// The geometric mean of stored bytes over the optimum, and the worst.
fn ratios(all: &[(&str, History)], outcomes: &[Outcome], least: &[u64]) -> String {
    let pairs = outcomes.iter().zip(least);
    let ratios: Vec<f64> = pairs.map(|(one, &least)| one.stored as f64 / least as f64).collect();
    let mean = (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
    let worst = (0..all.len()).max_by(|&one, &other| ratios[one].total_cmp(&ratios[other])).unwrap_or(0);
    format!("{mean:.3} | {:.2} ({})", ratios[worst], all[worst].0)
}
