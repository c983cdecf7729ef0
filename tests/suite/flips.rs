//! One bit flips in something that a machine keeps, and then an object is pushed: whatever it was, nothing wrong is stored.
//!
//! What a machine keeps are the objects of git-lfs and all that is in the cache's folder. Each kind of it is hit equally
//! often, so a fact of 300 bytes as often as an object.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::scene::{fetch, worlds};
use crate::support::data::{Random, noise, versions};
use crate::support::run::{is_soak, soak_seed};
use crate::support::sandbox::files_below;
use crate::world::{Object, Still, World};

/// Flips that are played of each scene, of which there are four.
const FLIPS: u64 = 7;
const FLIPS_OF_A_SOAK: u64 = 260;

/// A machine that is going to push objects, and what it keeps, by its kind.
struct Scene {
    name: String,
    world: World,
    still: Still,
    /// All but the last are stored already, or should be.
    objects: Vec<Object>,
    kept: Vec<(String, Vec<PathBuf>)>,
}

impl Scene {
    /// Takes the machine as it is; it must keep something of each of these kinds, beside the object.
    fn new(name: &str, world: World, objects: Vec<Object>, kinds: &[&str]) -> Scene {
        world.add_machine("cold");
        let name = format!("{name} on {}", if world.in_bucket().is_some() { "S3" } else { "a directory" });
        let own = world.local_path("a", objects.last().expect("an object"));
        let mut kept: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        let files = files_below(world.sandbox.root());
        for path in files.into_iter().filter(|(_, bytes)| !bytes.is_empty()).map(|(path, _)| path) {
            if let Some(kind) = kind_of(&path)
                && world.sandbox.path(&path) != own
            {
                kept.entry(kind).or_default().push(world.sandbox.path(path));
            }
        }
        assert_eq!(kept.keys().collect::<Vec<_>>(), kinds, "{name}");
        kept.insert(THE_OBJECT.into(), vec![own]);
        Scene { name, still: world.still(), world, objects, kept: kept.into_iter().collect() }
    }

    /// Flips a bit and pushes; returns whether the last object was stored.
    fn play(&self, seed: u64) -> bool {
        self.world.restore(&self.still);
        let mut random = Random::new(seed);
        let (kind, paths) = &self.kept[seed as usize % self.kept.len()];
        let path = &paths[random.below(paths.len())];
        let mut bytes = fs::read(path).expect("a file");
        let bit = random.below(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        // Not through its name: cache and git-lfs may share one file.
        fs::remove_file(path).and_then(|()| fs::write(path, bytes)).expect("a file");
        let case = format!("{}, LFS_DELTA_SOAK_SEED={seed}: bit {bit} of {}", self.name, path.display());
        let refused = self.push(&case);
        match refused[..] {
            [] => assert_ne!(kind, THE_OBJECT, "{case}: a damaged object was stored"),
            [object] => {
                assert_eq!(self.world.local_path("a", object), *path, "{case}");
                assert!(kind != THE_OBJECT || self.world.keys(&object.folder()).is_empty(), "{case}");
            }
            _ => panic!("{case}: {} were refused", refused.len()),
        }
        kind != THE_OBJECT
    }

    /// Pushes all objects and reads the last of them on a machine that has nothing; returns what was refused.
    fn push(&self, case: &str) -> Vec<&Object> {
        let mut agent = self.world.start("a", "upload");
        let (mut stored, mut refused) = (Vec::new(), Vec::new());
        for object in &self.objects {
            let transfer = agent.upload(&object.oid, object.size(), &self.world.local_path("a", object));
            match transfer.code() {
                None => stored.push(object),
                Some(code) => {
                    assert_eq!(code, 5001, "{case}: {transfer:?}");
                    refused.push(object);
                }
            }
        }
        agent.terminate();
        let mut cold = self.world.start("cold", "download");
        for object in stored.into_iter().rev().take(2) {
            fetch(&mut cold, object).unwrap_or_else(|code| panic!("{case}: {}: E{code}", object.oid));
        }
        cold.terminate();
        refused
    }

    fn play_all(&self) {
        let first = soak_seed().unwrap_or_default();
        let count = if is_soak() { FLIPS_OF_A_SOAK } else { FLIPS };
        println!("{}: LFS_DELTA_SOAK_SEED={first}, {count} flips", self.name);
        let stored = (first..first + count).filter(|&seed| self.play(seed)).count();
        println!("{}: {stored} stored and readable, {} refused, 0 wrong", self.name, count as usize - stored);
    }
}

const THE_OBJECT: &str = "the object";

/// The kind of what a machine keeps; `None` of what is no state of this program.
fn kind_of(path: &Path) -> Option<String> {
    let path = path.to_str()?;
    if path.starts_with("a/.git/lfs/objects/") {
        return Some("git-lfs' objects".into());
    }
    let mut words = path.strip_prefix("cache-a/")?.split('/');
    match words.next()? {
        "stores" => words.nth(1).map(|kind| format!("cache/stores/{kind}")),
        kind => Some(format!("cache/{kind}")),
    }
}

/// The version before is in git-lfs' own folder and in the cache. One of several that are pushed with it has been
/// condemned, which this machine knows from a listing that its processes share.
fn at_hand(world: World) -> Scene {
    let bodies = versions(65, 20_000, 4);
    world.pushed(bodies[..3].to_vec());
    let mut objects: Vec<Object> = (0..4).map(|seed| world.local(noise(seed, 500)).0).collect();
    let push_all = || {
        let mut agent = world.start("a", "upload");
        for object in &objects {
            agent.upload(&object.oid, object.size(), &world.local_path("a", object)).succeeded();
        }
        agent.terminate();
    };
    push_all();
    let condemned = world.copy(&objects[3]);
    world.damage(&condemned, |bytes| bytes[0] ^= 1);
    world.put(&condemned.replace("full.", "tombstone."), "a test\n");
    fs::remove_dir_all(cache_of_store(&world).join("listings")).expect("what was listed");
    push_all();
    // It was listed before it was stored again.
    let again =
        world.keys(&objects[3].folder()).into_iter().find(|key| key.contains("/full.") && *key != condemned);
    world.remove(&again.expect("a new copy"));
    objects.push(world.commit("file.bin", bodies[3].clone()));
    let kinds =
        ["cache/names", "cache/objects", "cache/stores/listings", "cache/stores/settled", "git-lfs' objects"];
    Scene::new("a base at hand", world, objects, &kinds)
}

fn cache_of_store(world: &World) -> PathBuf {
    let stores = world.sandbox.path("cache-a/stores");
    let only = fs::read_dir(stores).expect("a folder").next().expect("a store");
    only.expect("an entry").path()
}

/// The versions before were pruned, and of the base there are only the stored copies that it was once made of.
fn in_copies(world: World) -> Scene {
    let bodies = versions(66, 20_000, 4);
    let older = world.pushed(bodies[..3].to_vec());
    for older in &older {
        fs::remove_file(world.local_path("a", older)).expect("an object");
    }
    let cached = world.sandbox.path("cache-a/objects");
    fs::remove_dir_all(&cached).expect("a cache");
    world.pull("a", &older[2]);
    fs::remove_dir_all(&cached).expect("a cache");
    let object = world.commit("file.bin", bodies[3].clone());
    let kinds = ["cache/copies", "cache/names", "cache/stores/settled"];
    Scene::new("a base of kept copies", world, vec![object], &kinds)
}

/// Whatever flips, an object is stored so that a machine which has nothing reads it, or it is refused because it is not
/// what it should be.
#[test]
fn whatever_bit_flips_on_this_machine_nothing_wrong_is_stored() {
    worlds().map(at_hand).iter().for_each(Scene::play_all);
}

/// The same where a base has to be made of stored copies that this machine kept.
#[test]
fn whatever_bit_flips_in_kept_copies_nothing_wrong_is_stored() {
    worlds().map(in_copies).iter().for_each(Scene::play_all);
}
