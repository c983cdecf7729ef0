//! Pushes that run while a store is verified: no false alarm.

use crate::support::data::{noise, versions};
use crate::support::s3::{Fault, Kind, on};
use crate::world::{Object, World};

use super::{fill, push_versions, verify, verify_on};

/// A base that is stored behind the back of a listing, and a delta on it that the same listing shows.
#[test]
fn a_listing_that_shows_a_delta_without_its_base_is_not_believed() {
    let world = World::on_s3();
    fill(&world);
    world.add_machine("b");
    // A pair whose base sorts before everything else, so that the first page has passed it.
    let (mut base, mut target) = (Object::new(""), Object::new(""));
    for seed in 0.. {
        let pair = versions(1000 + seed, 8000, 2);
        (base, target) = (Object::new(pair[0].clone()), Object::new(pair[1].clone()));
        if base.oid < format!("{:02x}", 8) && target.oid.as_bytes()[0] >= b'c' {
            break;
        }
    }
    world.server().list_in_pages_of(4);
    world.server().fail(on(Kind::List).key("prefix=team/game/objects/").nth(3), Fault::Hang);
    let url = world.url.clone();
    std::thread::scope(|scope| {
        let check = scope.spawn(|| verify_on(&world, "b", &["--read-data"]));
        world.server().wait_for(|calls| {
            calls.of(Kind::List).iter().filter(|call| call.query.contains("objects")).count() >= 3
        });
        world.commit("pair.bin", base.bytes.clone());
        world.commit("pair.bin", target.bytes.clone());
        let mut agent = world.start("a", "upload");
        for object in [&base, &target] {
            agent.upload(&object.oid, object.size(), &world.local_path("a", object)).succeeded();
        }
        agent.terminate();
        assert!(world.copy(&target).contains("/delta."), "{url}");
        world.server().release();
        let said = check.join().expect("a check");
        said.assert_clean();
        // The check would have been in vain if it had not seen the delta and missed its base.
        let seen = said.summary["copies"].as_u64().expect("a number");
        let before = world.keys("objects/").len() as u64 - 2;
        assert_eq!(seen, before + 1, "{}", said.ran);
    });
    verify(&world, &["--read-data"]).assert_clean();
}

#[test]
fn checks_while_agents_push_find_nothing() {
    for world in [World::on_directory(), World::on_s3()] {
        world.add_machine("b");
        fill(&world);
        let done = std::sync::atomic::AtomicBool::new(false);
        let checks = std::thread::scope(|scope| {
            let checks = scope.spawn(|| {
                let mut checks = 0;
                while !done.load(std::sync::atomic::Ordering::SeqCst) || checks < 3 {
                    verify_on(&world, "b", &["--read-data"]).assert_clean();
                    checks += 1;
                }
                checks
            });
            for round in 0..6 {
                push_versions(&world, &format!("more {round}.bin"), versions(700 + round, 9000, 3));
                push_versions(&world, &format!("whole {round}.bin"), vec![noise(800 + round, 3000)]);
            }
            done.store(true, std::sync::atomic::Ordering::SeqCst);
            checks.join().expect("no alarm")
        });
        println!("{checks} checks");
    }
}
