//! What is damaged, missing or foreign is told, and never handed out.

use serde_json::Value;

use super::{PREFIX, World, versions};
use crate::support::data::noise;
use crate::support::s3::{Fault, Kind, on};

/// A DeltaSpace with a reference, two deltas and a whole file; the machine has nothing in its cache.
fn filled(world: &World, seed: u64) -> Vec<Vec<u8>> {
    let files = versions(seed, 2);
    world.put("a", &files[0]);
    world.put("b", &files[1]);
    world.put("c", &unlike(seed));
    world.move_away();
    files
}

/// What has nothing in common with the files of a seed.
fn unlike(seed: u64) -> Vec<u8> {
    noise(seed + 1000, 60_000)
}

#[test]
fn damage_is_found_wherever_it_is() {
    for world in World::both() {
        filled(&world, 40);
        for (stored, name, found) in [("b.delta", "b", 1), ("c", "c", 1), ("reference.bin", "b", 2)] {
            for at in [0, 7, usize::MAX] {
                let flip = |bytes: &mut Vec<u8>| {
                    let at = at.min(bytes.len() - 1);
                    bytes[at] ^= 0x10;
                };
                world.damage(stored, flip);
                world.move_away();
                let ran = world.get_fails(name);
                assert_eq!(ran.code(), 5, "{stored} at {at}: {ran}");
                ran.says("E5102").says("fix: put the file again");
                let (_, sum) = world.verify();
                // The first file is the reference itself: with it, its delta is lost.
                let expected = if stored == "reference.bin" { found + 1 } else { found };
                assert_eq!(sum["damaged"], expected, "{stored} at {at}");
                world.damage(stored, flip);
            }
        }
        assert_eq!(world.verify().1["proven"], 4);
    }
}

#[test]
fn what_is_cut_or_gone_is_told() {
    for world in World::both() {
        let files = filled(&world, 41);
        world.damage("b.delta", |bytes| bytes.truncate(bytes.len() / 2));
        world.get_fails("b").says("E5102");
        world.move_away();
        world.remove("reference.bin");
        world.get_fails("a").says("its reference is lost").says("reference.bin is not there");
        world.remove("b.delta");
        let ran = world.get_fails("b");
        assert_eq!(ran.code(), 4);
        ran.says("E5101").says("there is no").says("b.delta");
        // Whoever puts again begins anew.
        assert_eq!(world.put("b", &files[1])["operation"], "create_reference");
        world.assert_get("b", &files[1]);
        world.get_fails("a").says("its reference is lost");
        assert_eq!(world.put("a", &files[0])["operation"], "create_delta");
        world.assert_get("a", &files[0]);
    }
}

#[test]
fn a_put_replaces_what_is_damaged() {
    for world in World::both() {
        let files = filled(&world, 42);
        world.damage("b.delta", |bytes| bytes.clear());
        world.get_fails("b");
        world.put("b", &files[1]);
        world.move_away();
        world.assert_get("b", &files[1]);
    }
}

#[test]
fn nothing_is_built_on_a_damaged_reference() {
    for world in World::both() {
        let files = filled(&world, 43);
        let damages: [fn(&mut Vec<u8>); 2] = [|bytes| bytes[500] ^= 1, |bytes| bytes.truncate(500)];
        for damage in damages {
            world.damage("reference.bin", damage);
            let said = world.put("d", &files[1]);
            assert_eq!(said["operation"], "upload_direct", "{said}");
            assert!(
                said["warnings"][0].as_str().is_some_and(|warning| warning.contains("damaged")),
                "{said}"
            );
            world.remove("d");
        }
        world.put("d", &files[1]);
        world.assert_get("d", &files[1]);
    }
}

#[test]
fn a_damaged_cache_is_read_past() {
    let world = World::on_s3();
    let files = filled(&world, 44);
    world.assert_get("b", &files[1]);
    for (path, bytes) in
        crate::support::sandbox::files_below(&world.sandbox.path("home/.cache/lfs-delta/objects"))
    {
        let mut bytes = bytes;
        bytes[0] ^= 1;
        world.sandbox.write(std::path::Path::new("home/.cache/lfs-delta/objects").join(path), bytes);
    }
    world.assert_get("b", &files[1]);
}

#[test]
fn metadata_that_is_lost_is_a_warning_where_checksums_prove_the_file() {
    let world = World::on_s3();
    let files = filled(&world, 45);
    for name in ["reference.bin", "a.delta", "b.delta", "c"] {
        world.server().change_metadata(&format!("{PREFIX}/{name}"), |metadata| metadata.clear());
    }
    for (name, bytes) in [("b", &files[1]), ("a", &files[0]), ("b.delta", &files[1])] {
        let ran = world.get(name);
        assert!(ran.out == *bytes, "{ran}");
        ran.says("Warning").says("dg-file-sha256");
    }
    let ran = world.get("c");
    assert!(ran.out == unlike(45));
    ran.says("Warning");
    // And still no damage passes.
    world.damage("reference.bin", |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 1));
    world.move_away();
    world.get_fails("b");
}

#[test]
fn metadata_that_is_lost_is_an_error_where_nothing_proves_the_file() {
    let world = World::on_directory();
    filled(&world, 46);
    std::fs::remove_dir_all(world.sandbox.path("space/.deltaspace")).expect("metadata");
    world.get_fails("c").says("E5103").says("nothing says which bytes it has");
    // A delta has checksums of its own.
    let ran = world.get("b");
    assert!(ran.out == versions(46, 2)[1]);
    ran.says("Warning");
}

#[test]
fn a_delta_is_never_handed_out_as_a_file() {
    let world = World::on_s3();
    filled(&world, 47);
    let delta = world.server().get_raw(&format!("{PREFIX}/b.delta")).expect("a delta");
    // Copied under another name by a tool that drops metadata.
    world.server().put_raw(&format!("{PREFIX}/copy.zip"), delta.clone());
    world.get_fails("copy.zip").says("E5103").says("it is a delta");
    // And to where no reference is.
    world.server().put_raw("team/elsewhere/b.delta", delta);
    let url = world.url("").replace("team/app/", "team/elsewhere/b");
    let ran = world.sandbox.lfs_delta_fails("", &["get", &url]);
    assert!(ran.out.is_empty(), "{ran}");
    // What only looks like one by its name.
    world.server().put_raw(&format!("{PREFIX}/x.delta"), &b"no delta at all"[..]);
    let ran = world.get_fails("x.delta");
    ran.says("E5103").says("no VCDIFF");
}

#[test]
fn a_space_that_was_copied_as_a_whole_works_where_it_is_now() {
    let world = World::on_s3();
    let files = filled(&world, 48);
    for name in ["reference.bin", "a.delta", "b.delta"] {
        let key = format!("{PREFIX}/{name}");
        let (bytes, metadata) =
            (world.server().get_raw(&key).expect("a file"), world.server().metadata(&key));
        world.server().put_raw(&format!("copied/{name}"), bytes);
        world.server().change_metadata(&format!("copied/{name}"), |copied| *copied = metadata);
        world.server().delete_raw(&key);
    }
    let url = world.url("b").replace("team/app/", "copied/");
    assert!(world.sandbox.lfs_delta("", &["get", &url]).out == files[1]);
}

#[test]
fn a_delta_finds_its_reference_where_it_was_made() {
    let world = World::on_s3();
    let files = filled(&world, 49);
    let key = format!("{PREFIX}/b.delta");
    let (bytes, metadata) = (world.server().get_raw(&key).expect("a file"), world.server().metadata(&key));
    world.server().put_raw("moved/b.delta", bytes);
    world.server().change_metadata("moved/b.delta", |moved| *moved = metadata);
    let url = world.url("b").replace("team/app/", "moved/");
    assert!(world.sandbox.lfs_delta("", &["get", &url]).out == files[1]);
}

#[test]
fn verify_tells_what_it_found_of_each_and_by_its_exit() {
    let world = World::on_s3();
    filled(&world, 50);
    world.server().put_raw("team/app/below/notes.txt", &b"of another program"[..]);
    let (lines, sum) = world.verify();
    assert_eq!((lines.len(), &sum["proven"], &sum["not_of_a_deltaspace"]), (5, &4.into(), &1.into()));
    world.sandbox.lfs_delta("", &["verify", &world.url("b")]);
    world.sandbox.lfs_delta("", &["verify", &world.url("")]);
    world.damage("b.delta", |bytes| bytes[30] ^= 1);
    for what in ["b", "b.delta", ""] {
        let ran = world.sandbox.lfs_delta_fails("", &["verify", &world.url(what)]);
        assert_eq!(ran.code(), 5, "{ran}");
        ran.says("E5102");
    }
    let bad: Vec<Value> = world.verify().0.into_iter().filter(|line| line["valid"] == false).collect();
    assert_eq!(bad.len(), 1);
    assert_eq!((&bad[0]["state"], &bad[0]["code"]), (&"damaged".into(), &"E5102".into()));
    for what in ["missing", "missing/"] {
        let ran = world.sandbox.lfs_delta_fails("", &["verify", &world.url(what)]);
        assert_eq!(ran.code(), 4);
        ran.says("E5101").says("missing");
    }
}

#[test]
fn a_service_that_does_not_answer_is_no_missing_file() {
    let mut world = World::on_s3();
    world.sandbox.set("LFS_DELTA_ATTEMPTS", "2");
    filled(&world, 51);
    for (kind, fault, code) in [
        (Kind::Head, Fault::slow_down(), 8),
        (Kind::Get, Fault::internal_error(), 8),
        (Kind::Head, Fault::access_denied(), 7),
        (Kind::Get, Fault::Html404, 8),
    ] {
        world.server().fail(on(kind).forever(), fault.clone());
        let ran = world.get_fails("b");
        assert_eq!(ran.code(), code, "{kind:?} {fault:?}: {ran}");
        world.server().heal();
    }
    let ran = world.sandbox.lfs_delta_fails("", &["get", &world.url("a").replace("lfs-test", "no-bucket")]);
    assert_eq!(ran.code(), 10, "{ran}");
}

#[test]
fn every_single_fault_of_the_service_leaves_a_sound_space() {
    let world = World::on_s3();
    let files = versions(52, 2);
    let faults = [Fault::ResetBefore, Fault::ResetAfter, Fault::internal_error(), Fault::conflict()];
    for (round, fault) in faults.into_iter().enumerate() {
        for kind in [Kind::Head, Kind::Put, Kind::Get] {
            for nth in 1..=4 {
                let space = format!("{round}-{kind:?}-{nth}");
                let url = world.url("").replace("team/app/", &format!("{space}/"));
                world.write("a", &files[0]);
                world.write("b", &files[1]);
                world.server().fail(on(kind).nth(nth), fault.clone());
                world.move_away();
                let ran = world.sandbox.lfs_delta("files", &["put", "a", "b", &url]);
                world.server().heal();
                world.move_away();
                for (name, bytes) in ["a", "b"].iter().zip(&files) {
                    let got = world.sandbox.lfs_delta("", &["get", &url.replace("/?", &format!("/{name}?"))]);
                    assert!(got.out == *bytes, "{space}: {ran}");
                }
            }
        }
    }
}
