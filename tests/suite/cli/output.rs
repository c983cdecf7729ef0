//! Where `get` writes: `-o -` means the standard output, as with curl and others.

use crate::support::data::noise;
use crate::support::run::Ran;
use crate::world::World;

/// A store with two objects, a DeltaSpace with two files of the same bytes, and how each is named.
fn both_kinds() -> (World, Vec<Vec<u8>>, [[String; 2]; 2]) {
    let world = World::on_directory();
    let bodies = vec![noise(82, 20_000), noise(83, 20_000)];
    let objects = world.pushed(bodies.clone());
    std::fs::create_dir(world.sandbox.path("space")).expect("a folder");
    let space = format!("file://{}/", world.sandbox.path("space").display());
    for (name, bytes) in ["0.bin", "1.bin"].iter().zip(&bodies) {
        world.sandbox.write(format!("a/{name}"), bytes);
        world.sandbox.lfs_delta("a", &["put", name, &space]);
    }
    let urls = ["0.bin", "1.bin"].map(|name| format!("{space}{name}"));
    let oids = [objects[0].oid.clone(), objects[1].oid.clone()];
    std::fs::create_dir(world.sandbox.path("a/out")).expect("a folder");
    (world, bodies, [oids, urls])
}

/// Runs `get` in the folder `out`, from the world's store where no URL says otherwise.
fn get(world: &World, arguments: &[&str]) -> Ran {
    let store = format!("--store={}", world.url);
    let is_url = arguments.iter().any(|word| word.starts_with("file://"));
    let store: &[&str] = if is_url { &[] } else { &[&store] };
    world.sandbox.try_lfs_delta("a/out", &[&["get"], arguments, store].concat())
}

#[test]
fn a_dash_is_the_standard_output_and_no_file() {
    let (world, bodies, kinds) = both_kinds();
    for [name, _] in &kinds {
        for dash in [&["-o", "-"][..], &["--output=-"], &["-o-"]] {
            let ran = get(&world, &[dash, &[name.as_str()]].concat()).succeeded();
            assert!(ran.out == bodies[0], "{} other bytes: {}", ran.out.len(), ran.stderr());
        }
        assert_eq!(std::fs::read_dir(world.sandbox.path("a/out")).expect("a folder").count(), 0);
    }
}

#[test]
fn a_file_may_still_be_called_a_dash() {
    let (world, bodies, kinds) = both_kinds();
    for [name, _] in &kinds {
        get(&world, &["-o", "./-", name]).succeeded();
        let file = world.sandbox.path("a/out/-");
        assert!(std::fs::read(&file).expect("a file") == bodies[0], "other bytes");
        std::fs::remove_file(file).expect("a file");
    }
}

#[test]
fn the_standard_output_takes_one_file_and_nothing_beside_it() {
    let (world, _, kinds) = both_kinds();
    for [first, second] in &kinds {
        for (arguments, why) in
            [(&["-o", "-", first, second][..], "-o DIRECTORY"), (&["-o", "-", "--json", first], "--json")]
        {
            let ran = get(&world, arguments).failed().says(why);
            assert_eq!((ran.code(), ran.out.len()), (2, 0), "{ran}");
        }
        assert_eq!(std::fs::read_dir(world.sandbox.path("a/out")).expect("a folder").count(), 0);
    }
}
