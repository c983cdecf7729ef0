//! A process that sleeps at any step, while somebody collects what it relies on, or takes its files away.
//!
//! The collector is scripted and follows rule R8 of the store protocol: it condemns, looks again for what depends
//! on the victim, and deletes only where nothing does.

use std::fs;
use std::path::Path;
use std::time::Duration;

use lfs_delta::model::{CopyName, Entry, Key};

use crate::scene::{PATIENCE, Scene, fetch, push_delta};
use crate::support::data::versions;
use crate::support::fake_lfs::{FakeLfs, Transfer};
use crate::support::run::{is_soak, wait_until};
use crate::support::s3::{Fault, any};
use crate::support::trace::{Act, When};
use crate::world::{Object, World};

/// The name of an object's only copy.
fn name_of(world: &World, object: &Object) -> CopyName {
    match Entry::parse(&world.copy(object)) {
        Some(Entry::Copy(name)) => name,
        other => panic!("no copy: {other:?}"),
    }
}

/// Collects a copy by rule R8; returns whether it is gone.
fn collect(world: &World, victim: &CopyName) -> bool {
    world.put(Key::tombstone(&victim.id).as_str(), "collected by a test\n");
    let depends =
        |key: &String| matches!(Entry::parse(key), Some(Entry::Copy(name)) if name.base() == Some(victim.id));
    let is_needed = world.keys("objects/").iter().any(depends);
    if !is_needed {
        world.remove(Key::copy(victim).as_str());
    }
    !is_needed
}

/// What was pushed meanwhile is readable by whoever has nothing, if it was acknowledged.
fn assert_readable(scene: &Scene, transfer: &Transfer) {
    if transfer.error().is_none() {
        let mut cold = scene.world.start("cold", "download");
        fetch(&mut cold, scene.object()).expect("what was acknowledged");
        cold.terminate();
    }
}

/// Freezes the transfer in its n-th request, does something, and lets it go on; `None` where there is no n-th.
fn freeze_in_request(scene: &Scene, nth: usize, fault: &Fault, meanwhile: impl FnOnce()) -> Option<Transfer> {
    let server = scene.world.server();
    server.fail(any().nth(nth), fault.clone());
    let mut agent = FakeLfs::spawn(scene.command());
    let is_after = *fault == Fault::HangAfter;
    let hangs = || server.calls().iter().any(|call| call.fault.is_some() && (!is_after || call.status > 0));
    let (transfer, froze) = std::thread::scope(|scope| {
        let playing = scope.spawn(|| agent.attempt(scene.operation, &scene.request));
        assert!(wait_until(PATIENCE, || hangs() || playing.is_finished()), "nothing happens");
        let froze = hangs();
        if froze {
            meanwhile();
            server.release();
        }
        (playing.join().expect("a transfer").expect("an answer"), froze)
    });
    agent.terminate();
    froze.then_some(transfer)
}

#[test]
fn a_push_that_sleeps_in_any_request_does_not_rely_on_a_base_that_is_collected() {
    let scene = push_delta(World::on_s3());
    let (mut collected, mut kept) = (0, 0);
    for fault in [Fault::Hang, Fault::HangAfter] {
        for nth in 1.. {
            scene.restore();
            let base = name_of(&scene.world, &scene.acknowledged[0]);
            let mut is_gone = false;
            let Some(transfer) =
                freeze_in_request(&scene, nth, &fault, || is_gone = collect(&scene.world, &base))
            else {
                break;
            };
            println!("frozen in request {nth}, {fault:?}: base is gone: {is_gone}, {:?}", transfer.code());
            assert_eq!(transfer.error(), None);
            assert_readable(&scene, &transfer);
            collected += usize::from(is_gone);
            kept += usize::from(!is_gone);
        }
    }
    assert!(collected > 2 && kept > 0, "{collected} collected, {kept} kept");
}

/// Freezes the transfer at its n-th change of a file, does something, and lets it go on; `None` where there is no n-th.
fn freeze_at_change(scene: &Scene, nth: usize, meanwhile: impl FnOnce()) -> Option<Transfer> {
    let mut agent = FakeLfs::traced(scene.command(), Act::Freeze(nth, When::Before));
    let tracee = agent.tracee().clone();
    let (transfer, froze) = std::thread::scope(|scope| {
        let playing = scope.spawn(|| agent.attempt(scene.operation, &scene.request));
        assert!(wait_until(PATIENCE, || tracee.has_acted() || playing.is_finished()), "nothing happens");
        let froze = tracee.has_acted();
        if froze {
            meanwhile();
        }
        // What is frozen at its end only is let go, too.
        tracee.thaw();
        (playing.join().expect("a transfer").expect("an answer"), froze)
    });
    scene.assert_bytes(&transfer);
    agent.terminate();
    froze.then_some(transfer)
}

/// Freezes a transfer at one of `stride` changes of a file, and cuts a file that it needs as soon as the system lets it:
/// who writes to what is held has to wait. Returns how many transfers were done, and how many refused.
fn cut_at_any_change(scene: &Scene, path: &Path, stride: usize) -> (usize, usize) {
    let cut = || fs::OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(10));
    let (mut done, mut refused) = (0, 0);
    for nth in (1..).step_by(if is_soak() { 1 } else { stride }) {
        scene.restore();
        let transfer = std::thread::scope(|scope| {
            let mut cutting = None;
            let transfer = freeze_at_change(scene, nth, || {
                let cutting = cutting.insert(scope.spawn(cut));
                wait_until(WRITER_PATIENCE, || cutting.is_finished());
            });
            cutting.into_iter().for_each(|cutting| cutting.join().expect("no panic").expect("a file"));
            transfer
        });
        let Some(transfer) = transfer else { break };
        println!("frozen at change {nth}: {:?}", transfer.code());
        assert!(matches!(transfer.code(), None | Some(5001)), "{transfer:?}");
        assert_readable(scene, &transfer);
        done += usize::from(transfer.error().is_none());
        refused += usize::from(transfer.error().is_some());
    }
    println!("{done} done, {refused} refused");
    (done, refused)
}

/// After which a writer that still waits is taken to wait for the transfer.
const WRITER_PATIENCE: Duration = Duration::from_millis(50);

/// Bytes of an object that is too large for memory.
const LARGE: usize = (16 << 20) + 1000;

/// A push of a large object's second version.
fn push_large_delta() -> Scene {
    let world = World::on_directory();
    let bodies = versions(75, LARGE, 2);
    let first = world.pushed(bodies[..1].to_vec());
    let second = world.commit("file.bin", bodies[1].clone());
    Scene::new("push-delta of a large object", world, first, vec![second])
}

/// Cuts the base of a push, which can be done without.
fn cut_base(scene: &Scene, stride: usize) {
    let path = scene.world.local_path("a", &scene.acknowledged[0]);
    let (done, refused) = cut_at_any_change(scene, &path, stride);
    assert!(done > 1 && refused == 0);
}

/// Cuts the object of a push, which cannot.
fn cut_object(scene: &Scene, stride: usize) {
    let (done, refused) = cut_at_any_change(scene, &scene.world.local_path("a", scene.object()), stride);
    assert!(done > 1 && refused > 0);
}

#[test]
fn a_base_that_shrinks_at_any_moment_of_a_push_does_no_harm() {
    cut_base(&push_delta(World::on_directory()), 4);
}

#[test]
fn an_object_that_shrinks_at_any_moment_of_its_push_is_refused_or_whole() {
    cut_object(&push_delta(World::on_directory()), 4);
}

#[test]
fn a_large_base_that_shrinks_at_any_moment_of_a_push_does_no_harm() {
    cut_base(&push_large_delta(), 6);
}

#[test]
fn a_large_object_that_shrinks_at_any_moment_of_its_push_is_refused_or_whole() {
    cut_object(&push_large_delta(), 6);
}

#[test]
fn a_large_base_that_shrinks_at_any_moment_of_a_pull_does_no_harm() {
    let world = World::on_directory();
    let mut objects = world.pushed(versions(76, LARGE, 2));
    let base = world.local_path("a", &objects[0]);
    fs::remove_file(world.local_path("a", &objects[1])).expect("an object");
    fs::remove_dir_all(world.sandbox.path("cache-a")).expect("a cache");
    let scene = Scene::pull("pull of a large delta", world, "a", objects.remove(1));
    let (done, refused) = cut_at_any_change(&scene, &base, 6);
    assert!(done > 1 && refused == 0);
}
