//! Many at once with real git: clones that push at the same moment, each by eight agents.

use crate::git::world::World;
use crate::support::data::{edited, noise};
use crate::support::run::{DEADLINE, is_soak};

on_both_stores! {
    three_clones_push_by_eight_agents_each,
}

const CLONES: [&str; 3] = ["one", "two", "three"];

/// Files of each clone, as many as git-lfs starts agents.
const FILES: u64 = 8;

fn rounds() -> u64 {
    if is_soak() { 10 } else { 1 }
}

/// What a clone has in a file after a round.
fn content(clone: usize, round: u64, file: u64) -> Vec<u8> {
    let first = noise(file, 8_000 + 100 * file as usize);
    if round == 0 { first } else { edited(&first, round * 100 + file * 10 + clone as u64, 3) }
}

fn file_name(file: u64) -> String {
    format!("file-{file}.bin")
}

fn commit(world: &World, clone: usize, round: u64, place: &str) {
    for file in 0..FILES {
        world.write(format!("{place}/{}", file_name(file)), content(clone, round, file));
    }
    world.git(place, &["add", "."]);
    world.git(place, &["commit", "--quiet", "--message", &format!("Round {round}")]);
}

/// All change the same files, each on a branch of its own and with a cache of its own: so they are machines of their own.
pub fn three_clones_push_by_eight_agents_each(world: &mut World) {
    world.repo("repo");
    commit(world, 0, 0, "repo");
    world.git("repo", &["push", "--quiet"]);
    for clone in CLONES {
        world.clone_repo(clone);
        world.git(clone, &["checkout", "--quiet", "-b", clone]);
        let cache = world.path(format!("cache-{clone}"));
        world.git(clone, &["config", "lfs-delta.cacheDir", cache.to_str().expect("text")]);
    }
    for round in 1..=rounds() {
        (0..).zip(CLONES).for_each(|(number, clone)| commit(world, number, round, clone));
        let pushes = CLONES.map(|clone| world.start_git(clone, &["push", "--quiet", "origin", clone]));
        for push in pushes {
            push.finish(DEADLINE).succeeded();
        }
        world.move_to_teammate();
        for (number, clone) in (0..).zip(CLONES) {
            let fresh = format!("{clone}-{round}");
            world.clone_with(&fresh, &["--branch", clone]);
            for file in 0..FILES {
                world.assert_file(format!("{fresh}/{}", file_name(file)), &content(number, round, file));
            }
        }
    }
    println!("{} objects of {} pushes are readable", 3 * FILES * rounds(), 3 * rounds());
}
