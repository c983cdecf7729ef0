//! A crash loses nothing: `kill -9` before and after every change of a file and every request.
//!
//! Each scene is played again and again, killed one step later each time. After each death, with no step by hand:
//! whatever was ever acknowledged comes back byte for byte on a machine that has nothing; what was not is there
//! or is said to be missing, and never damaged; the same request works; no more than one copy is left over.
//!
//! `tests/run.sh` tries a part of the points, `tests/run.sh --soak` all of them.

mod hands;

use crate::scene::{PATIENCE, Scene, pull_cold, pull_warm, push_delta, push_full, push_history, worlds};
use crate::support::data::{noise, text};
use crate::support::fake_lfs::{FakeLfs, Transfer};
use crate::support::run::{is_soak, signal, wait_until};
use crate::support::s3::{Fault, any};
use crate::support::trace::{Act, When};
use crate::world::World;

/// The points to be tried of 1, 2, 3 …, each with its side.
fn points(stride: usize) -> impl Iterator<Item = (usize, When)> {
    let stride = if is_soak() { 1 } else { stride };
    let both = move |nth: usize| match (stride, nth / stride % 2) {
        (1, _) => vec![(nth, When::Before), (nth, When::After)],
        (_, 0) => vec![(nth, When::Before)],
        _ => vec![(nth, When::After)],
    };
    (1..).step_by(stride).flat_map(both)
}

impl Scene {
    /// Plays it to its end under ptrace; returns what was answered, and whether it died as planned.
    fn play(&self, act: Act) -> (Option<Transfer>, bool) {
        let mut agent = FakeLfs::traced(self.command(), act);
        let answer = agent.attempt(self.operation, &self.request);
        if answer.is_some() {
            let _ = agent.try_send_raw(b"{\"event\":\"terminate\"}\n");
        }
        agent.close_stdin();
        agent.wait(PATIENCE).expect("an end");
        (answer, agent.tracee().has_acted())
    }

    /// The number of changes that it makes when nothing happens.
    fn changes(&self) -> usize {
        self.restore();
        let mut agent = FakeLfs::traced(self.command(), Act::Watch);
        agent.attempt(self.operation, &self.request).expect("an answer").succeeded();
        let _ = agent.try_send_raw(b"{\"event\":\"terminate\"}\n");
        agent.wait(PATIENCE).expect("an end");
        agent.tracee().changes().iter().filter(|change| change.path.is_absolute()).count()
    }

    /// Kills it at every change of a file.
    fn die_at_every_change(&self, stride: usize) {
        let (all, mut tried) = (self.changes() * 2, 0);
        for (nth, when) in points(stride) {
            self.restore();
            let (answer, died) = self.play(Act::Kill(nth, when));
            if !died {
                break;
            }
            println!("{}: killed {when:?} change {nth}", self.name);
            self.assert_outlived(answer.as_ref());
            tried += 1;
        }
        println!("{}: {tried} of {all} points at changes of files", self.name);
        assert!(all > 20 && tried * stride * 2 >= all / 2, "{tried} of {all} were tried");
    }

    /// Kills it at every request to the S3 server.
    fn die_at_every_request(&self, stride: usize) {
        let mut tried = 0;
        for (nth, when) in points(stride) {
            self.restore();
            let fault = if when == When::Before { Fault::Hang } else { Fault::HangAfter };
            self.world.server().fail(any().nth(nth), fault);
            let mut agent = FakeLfs::spawn(self.command());
            let Some(answer) = self.die_in_request(&mut agent, when) else { break };
            println!("{}: killed {when:?} request {nth}", self.name);
            self.world.server().heal();
            self.assert_outlived(answer.as_ref());
            tried += 1;
        }
        println!("{}: {tried} points at requests", self.name);
        assert!(tried > 2, "only {tried} were tried");
    }

    /// Kills an agent in the request that hangs; `None` if there was none.
    fn die_in_request(&self, agent: &mut FakeLfs, when: When) -> Option<Option<Transfer>> {
        let hangs = || {
            let is_done = |status| when == When::Before || status > 0;
            let calls = self.world.server().calls();
            calls.iter().any(|call| call.fault.is_some() && is_done(call.status))
        };
        let pid = agent.pid();
        let answer = std::thread::scope(|scope| {
            let playing = scope.spawn(|| agent.attempt(self.operation, &self.request));
            assert!(wait_until(PATIENCE, || hangs() || playing.is_finished()), "{}: hangs", self.name);
            signal("KILL", &pid.to_string());
            playing.join().expect("a transfer")
        });
        agent.wait(PATIENCE).expect("an end");
        hangs().then_some(answer)
    }

    fn assert_outlived(&self, answer: Option<&Transfer>) {
        if let Some(transfer) = answer {
            assert_eq!(transfer.error(), None, "{}: an error that nobody made", self.name);
        }
        self.assert_survived(answer.is_some());
    }
}

#[test]
fn a_push_of_a_whole_copy_dies_at_any_change_of_a_file() {
    push_full(World::on_directory(), text(70, 20_000)).die_at_every_change(7);
}

#[test]
fn a_push_of_a_raw_copy_dies_at_any_change_of_a_file() {
    push_full(World::on_directory(), noise(70, 20_000)).die_at_every_change(7);
}

#[test]
fn a_push_of_a_delta_dies_at_any_change_of_a_file() {
    worlds().map(push_delta).iter().for_each(|scene| scene.die_at_every_change(7));
}

#[test]
fn a_push_of_a_history_dies_at_any_change_of_a_file() {
    worlds().map(push_history).iter().for_each(|scene| scene.die_at_every_change(11));
}

#[test]
fn a_cold_pull_dies_at_any_change_of_a_file() {
    worlds().map(pull_cold).iter().for_each(|scene| scene.die_at_every_change(7));
}

#[test]
fn a_warm_pull_dies_at_any_change_of_a_file() {
    worlds().map(pull_warm).iter().for_each(|scene| scene.die_at_every_change(7));
}

/// Buckets of services that honour conditional writes, and of those that do not.
fn buckets() -> [World; 2] {
    let without = World::on_s3();
    without.server().ignore_conditions();
    [World::on_s3(), without]
}

#[test]
fn a_push_of_a_whole_copy_dies_in_any_request() {
    buckets()
        .map(|world| push_full(world, text(75, 20_000)))
        .iter()
        .for_each(|scene| scene.die_at_every_request(1));
}

#[test]
fn a_push_of_a_delta_dies_in_any_request() {
    buckets().map(push_delta).iter().for_each(|scene| scene.die_at_every_request(1));
}

#[test]
fn a_push_of_a_history_dies_in_any_request() {
    buckets().map(push_history).iter().for_each(|scene| scene.die_at_every_request(2));
}

#[test]
fn a_cold_pull_dies_in_any_request() {
    buckets().map(pull_cold).iter().for_each(|scene| scene.die_at_every_request(1));
}

#[test]
fn a_push_in_parts_dies_in_any_request() {
    let scene = push_full(World::on_s3(), noise(76, 1 << 20).repeat(65));
    scene.die_at_every_request(4);
}
