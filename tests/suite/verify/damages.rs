//! Random damages of every kind, some at once: exactly the objects are named whose chain they touch.

use std::collections::{BTreeMap, BTreeSet};

use lfs_delta::model::{CopyId, CopyName, Entry};

use super::{fill, verify};
use crate::support::data::Random;
use crate::world::World;

/// The copies of a store as the test knows them, and how to bring them back.
struct Model {
    world: World,
    copies: BTreeMap<String, (CopyName, Vec<u8>)>,
}

impl Model {
    fn new(world: World) -> Self {
        fill(&world);
        // Whatever else is in a store: nothing that happens to it is damage of an object.
        world.put("spaces/0123/hint", "x");
        let copies = world.keys("objects/").into_iter().map(|key| {
            let Some(Entry::Copy(name)) = Entry::parse(&key) else { panic!("{key}") };
            let bytes = world.get(&key);
            (key, (name, bytes))
        });
        let copies = copies.collect();
        Self { world, copies }
    }

    /// The oids of all objects whose chain has one of these copies.
    fn affected(&self, damaged: &BTreeSet<CopyId>) -> BTreeSet<String> {
        let names: BTreeMap<CopyId, CopyName> =
            self.copies.values().map(|(name, _)| (name.id, *name)).collect();
        let is_affected = |name: &&CopyName| {
            let mut next = Some(name.id);
            while let Some(id) = next {
                if damaged.contains(&id) {
                    return true;
                }
                next = names[&id].base();
            }
            false
        };
        names.values().filter(is_affected).map(|name| name.id.oid.to_string()).collect()
    }

    /// Damages some copies, and returns which.
    fn damage(&self, random: &mut Random) -> BTreeSet<CopyId> {
        let keys: Vec<&String> = self.copies.keys().collect();
        let mut damaged = BTreeSet::new();
        for _ in 0..=random.below(4) {
            let (key, other) = (keys[random.below(keys.len())], keys[random.below(keys.len())]);
            let id = self.copies[key].0.id;
            if self.apply(random, key, other) {
                damaged.insert(id);
                println!("    {key}");
            } else {
                // It is as it was, whatever was done to it before.
                damaged.remove(&id);
            }
        }
        damaged
    }

    /// Damages one copy; `false` where this kind of damage changes nothing of it.
    fn apply(&self, random: &mut Random, key: &str, other: &str) -> bool {
        let mut bytes = self.copies[key].1.clone();
        match random.below(6) {
            0 => {
                self.world.put(key, "");
                self.world.remove(key);
                println!("delete");
                return true;
            }
            1 if !bytes.is_empty() => {
                bytes.truncate(random.below(bytes.len()));
                println!("truncate to {}", bytes.len());
            }
            2 if !bytes.is_empty() => {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
                println!("flip in byte {at} of {}", bytes.len());
            }
            3 => {
                bytes = self.copies[other].1.clone();
                println!("content of {other}");
            }
            4 => {
                bytes = random.bytes(bytes.len());
                println!("noise of the same length");
            }
            _ => {
                bytes.push(0);
                println!("one byte more");
            }
        }
        self.world.put(key, &bytes);
        bytes != self.copies[key].1
    }

    fn restore(&self) {
        for (key, (_, bytes)) in &self.copies {
            self.world.put(key, bytes);
        }
    }

    /// One round: exactly the affected objects are named; returns how many copies were damaged.
    fn round(&self, seed: u64) -> usize {
        println!("seed {seed}");
        let damaged = self.damage(&mut Random::new(seed));
        let said = verify(&self.world, &["--refs", "--read-data"]);
        let expected = self.affected(&damaged);
        assert_eq!(said.oids(), expected, "{}", said.ran);
        assert_eq!(said.code, if expected.is_empty() { 0 } else { 5 }, "{}", said.ran);
        for finding in &said.findings {
            assert!(finding["uses"].as_array().is_some_and(|uses| !uses.is_empty()), "{}", said.ran);
        }
        self.restore();
        damaged.len()
    }
}

/// Damages copies until `count` were, and looks that nothing is wrong once all are back.
fn damage_many(world: World, count: usize) {
    let model = Model::new(world);
    let (mut damaged, mut seed) = (0, 0);
    while damaged < count {
        damaged += model.round(seed);
        seed += 1;
    }
    verify(&model.world, &["--refs", "--read-data"]).assert_clean();
    println!("{damaged} damages in {seed} rounds");
}

#[test]
fn random_damages_of_a_directory_are_named_exactly() {
    damage_many(World::on_directory(), 150);
}

#[test]
fn random_damages_of_a_bucket_are_named_exactly() {
    damage_many(World::on_s3(), 100);
}

#[cfg(feature = "soak")]
#[test]
fn a_thousand_random_damages_are_named_exactly() {
    damage_many(World::on_directory(), 1000);
}

/// Without reading, what is gone is named with all that is built on it, and what is shorter than its header.
#[test]
fn a_listing_tells_what_is_gone_and_what_is_cut_short() {
    for world in [World::on_directory(), World::on_s3()] {
        let model = Model::new(world);
        let chains: Vec<_> = model.copies.iter().filter(|(_, (name, _))| name.codec().is_some()).collect();
        for (key, (name, bytes)) in chains.iter().step_by(4) {
            let above = |with_own: bool| {
                let mut affected = model.affected(&BTreeSet::from([name.id]));
                if !with_own {
                    affected.remove(&name.id.oid.to_string());
                }
                affected
            };
            model.world.remove(key);
            let said = verify(&model.world, &[]);
            assert_eq!(said.oids(), above(false), "{}", said.ran);
            let said = verify(&model.world, &["--refs"]);
            assert_eq!(said.oids(), above(true), "{}", said.ran);
            assert_eq!(said.code, 5);
            for cut in [0, 1, 120] {
                model.world.put(key, &bytes[..cut]);
                let said = verify(&model.world, &[]);
                assert_eq!((said.oids(), said.code), (above(true), 5), "{}", said.ran);
            }
            model.restore();
        }
        verify(&model.world, &[]).assert_clean();
    }
}

#[test]
fn a_raw_copy_of_another_size_than_its_pointer_says_is_named_without_reading() {
    let world = World::on_directory();
    let objects = fill(&world);
    let key = world.copy(&objects[0]);
    world.damage(&key, |bytes| bytes.truncate(5000));
    verify(&world, &[]).assert_clean();
    let said = verify(&world, &["--refs"]);
    assert!(said.oids().contains(&objects[0].oid) && said.code == 5, "{}", said.ran);
}

#[test]
fn what_is_no_copy_of_an_object_is_no_damage_of_one() {
    let world = World::on_directory();
    fill(&world);
    world.put("spaces/0123/hint", "x");
    verify(&world, &["--refs", "--read-data"]).assert_clean();
    for key in world.keys("repos/").iter().chain(&world.keys("spaces/")) {
        world.damage(key, |bytes| bytes[0] ^= 1);
        verify(&world, &["--refs", "--read-data"]).assert_clean();
        world.remove(key);
        verify(&world, &["--refs", "--read-data"]).assert_clean();
    }
    for foreign in ["objects/aa/notes.txt", "objects/.DS_Store", "objects/aa/bb/cc/dd"] {
        world.put(foreign, "x");
    }
    verify(&world, &["--refs", "--read-data"]).assert_clean();
}

/// Ten thousand objects on a disk, a tenth of that in a bucket that lists a hundred at a time.
#[test]
fn a_large_clean_store_gives_no_alarm() {
    for (world, count) in [(World::on_directory(), 10_000), (World::on_s3(), 1000)] {
        let mut random = Random::new(7);
        for number in 0..count {
            let object = crate::world::Object::new(format!("object {number}"));
            let nonce: String = random.bytes(16).iter().map(|byte| format!("{byte:02x}")).collect();
            world.put(&format!("{}full.{nonce}", object.folder()), &object.bytes);
        }
        if count == 1000 {
            world.server().list_in_pages_of(100);
        }
        verify(&world, &[]).assert_clean();
        let said = verify(&world, &["--read-data"]);
        said.assert_clean();
        assert_eq!(said.summary["read"], count);
    }
}
