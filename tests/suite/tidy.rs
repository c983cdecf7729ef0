//! The order of the source: who may import whom, and what may stand only in one place.
//!
//! Reads the files as text, line by line. Tests inside of them are left out, and so are comments.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use lfs_delta::error::KINDS;

/// From the bottom up. A module imports only from lines before its own: never up, never sideways.
const ORDER: [&[&str]; 10] = [
    &["model"],
    &["clock", "cancel", "threads"],
    &["disk"],
    &["store", "codec", "git"],
    &["plan", "depot", "cache", "config", "logging"],
    &["error"],
    &["transfer"],
    &["verify", "space"],
    &["agent", "cli"],
    &["main"],
];

/// One source file without its tests and comments.
struct File {
    /// Relative to `src`.
    path: PathBuf,
    /// Numbered from 1.
    lines: Vec<(usize, String)>,
}

impl File {
    /// The top-level module it belongs to.
    fn module(&self) -> String {
        let first = self.path.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
        first.trim_end_matches(".rs").to_owned()
    }

    /// `src/path:line: text` of the lines in which `wanted` holds.
    fn find(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let shown = |(number, line): &(usize, String)| {
            format!("src/{}:{number}: {}", self.path.display(), line.trim())
        };
        self.lines.iter().filter(|(_, line)| wanted(line)).map(shown).collect()
    }
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All source files.
fn files() -> Vec<File> {
    let (mut files, mut folders) = (Vec::new(), vec![source()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("tests.rs")
            {
                let text = fs::read_to_string(&path).expect("a text file");
                let path = path.strip_prefix(source()).expect("below src").to_owned();
                files.push(File { path, lines: without_tests(&text) });
            }
        }
    }
    assert!(files.len() > 30, "only {} files", files.len());
    files
}

/// The lines before the tests, without comments.
fn without_tests(text: &str) -> Vec<(usize, String)> {
    let before_tests = text.lines().take_while(|line| *line != "#[cfg(test)]");
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    (1..).zip(before_tests.map(code)).filter(|(_, line)| !line.trim().is_empty()).collect()
}

/// The modules that a line names by `crate::` or `lfs_delta::`.
fn modules_in(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for root in ["crate::", "lfs_delta::"] {
        for rest in line.split(root).skip(1) {
            let names = rest.strip_prefix('{').and_then(|list| list.split('}').next()).unwrap_or(rest);
            let names: Vec<&str> =
                if rest.starts_with('{') { names.split(',').collect() } else { vec![names] };
            let word = |name: &str| {
                name.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().map(str::to_owned)
            };
            found.extend(names.into_iter().filter_map(word).filter(|name| !name.is_empty()));
        }
    }
    found
}

fn level(module: &str) -> usize {
    let found = ORDER.iter().position(|modules| modules.contains(&module));
    found.unwrap_or_else(|| panic!("module {module} has no place in the order"))
}

#[test]
fn modules_import_only_from_below() {
    let mut wrong = Vec::new();
    let mut imports = 0;
    for file in files().iter().filter(|file| file.module() != "lib") {
        let own = file.module();
        for (number, line) in &file.lines {
            for other in modules_in(line).iter().filter(|other| **other != own) {
                imports += 1;
                if level(other) >= level(&own) {
                    wrong
                        .push(format!("src/{}:{number}: {own} must not import {other}", file.path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(imports > 100, "only {imports} imports were found");
}

#[test]
fn every_module_has_a_place_in_the_order() {
    let modules: BTreeSet<String> =
        files().iter().map(File::module).filter(|module| module != "lib").collect();
    let order: BTreeSet<String> =
        ORDER.iter().flat_map(|line| line.iter()).map(|&name| name.to_owned()).collect();
    assert_eq!(modules, order);
}

/// Fails the test if a line of any file outside of `places` is `wanted`.
#[track_caller]
fn assert_only_in(places: &[&str], wanted: impl Fn(&str) -> bool) {
    let (inside, outside): (Vec<File>, Vec<File>) =
        files().into_iter().partition(|file| places.iter().any(|place| file.path.starts_with(place)));
    let wrong: Vec<_> = outside.iter().flat_map(|file| file.find(&wanted)).collect();
    assert!(wrong.is_empty(), "only in {places:?}:\n{}", wrong.join("\n"));
    let right = inside.iter().flat_map(|file| file.find(&wanted)).count();
    assert!(places.is_empty() || right > 0, "not even in {places:?}: does the check still work?");
}

/// Whether a word stands in a line by itself.
fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

#[test]
fn only_config_reads_environment_variables() {
    assert_only_in(&["config.rs"], |line| line.contains("env::var") || line.contains("env!("));
}

#[test]
fn only_stores_are_asynchronous_and_the_flag_that_they_wait_for() {
    assert_only_in(&["store", "cancel.rs"], |line| has_word(line, "async") || line.contains(".await"));
    let flag = files().into_iter().find(|file| file.path.ends_with("cancel.rs")).expect("cancel.rs");
    assert_eq!(flag.find(|line| has_word(line, "async")).len(), 1);
}

#[test]
fn nothing_prints_but_the_edges_on_what_they_are_handed() {
    let printing = ["println!", "print!", "eprintln!", "eprint!", "dbg!"];
    assert_only_in(&[], |line| printing.iter().any(|print| line.contains(print)));
    assert_only_in(&["main.rs"], |line| {
        ["io::stdout()", "io::stderr()", "io::stdin()"].iter().any(|s| line.contains(s))
    });
}

/// Anywhere else a thread that the system refuses is a panic; but these are only tests.
#[test]
fn threads_are_started_in_one_place() {
    let starts = ["thread::spawn(", "scope.spawn(", "thread::Builder", ".spawn_scoped("];
    assert_only_in(&["threads.rs", "transfer/tests", "store/artefacts_contract.rs"], |line| {
        starts.iter().any(|start| line.contains(start))
    });
}

#[test]
fn nothing_is_unwrapped_or_left_undone() {
    let wrong = [".unwrap()", ".unwrap_err()", "todo!", "unimplemented!", "allow(dead_code", "allow(unused"];
    assert_only_in(&[], |line| wrong.iter().any(|wrong| line.contains(wrong)));
}

#[test]
fn only_mappings_are_unsafe() {
    assert_only_in(&["disk/map.rs", "disk/map/lease.rs"], |line| has_word(line, "unsafe"));
}

#[test]
fn only_s3_knows_the_sdk_and_only_disk_makes_temporary_files() {
    assert_only_in(&["store/s3.rs", "store/s3"], |line| {
        line.contains("aws_sdk_s3::") || line.contains("aws_config::")
    });
    assert_only_in(&["clock.rs"], |line| line.contains("SystemTime::now"));
    assert_only_in(&["git"], |line| line.contains("Command::new(\"git"));
}

#[test]
fn every_file_says_what_it_is_and_every_line_is_free_of_names_of_keys() {
    for file in files() {
        let text = fs::read_to_string(source().join(&file.path)).expect("a text file");
        assert!(text.starts_with("//! "), "src/{} does not say what it is", file.path.display());
        // What `without_tests` leaves out must be tests, and what `modules_in` reads must be on one line.
        let tests = text.split_once("\n#[cfg(test)]\n").map_or("mod tests", |(_, rest)| rest);
        let tests = tests.trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
        assert!(tests.starts_with("mod tests"), "src/{} has more than tests for tests", file.path.display());
        assert!(
            !text.contains("crate::{\n"),
            "src/{} imports in a way that is not read",
            file.path.display()
        );
    }
    assert_only_in(&["model/key.rs"], |line| line.contains("\"objects/") || line.contains("\"full."));
}

#[test]
fn every_error_code_is_explained_where_codes_are_listed() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR"));
    let texts =
        ["README.md", "docs/errors.md"].map(|name| fs::read_to_string(docs.join(name)).unwrap_or_default());
    let text = texts.concat();
    let listed = KINDS.iter().filter(|kind| text.contains(&format!("E{:04}", kind.code))).count();
    // A single code may be an example; a table is complete.
    assert!(listed <= 3 || listed == KINDS.len(), "{listed} of {} codes are listed", KINDS.len());
}

/// All functions of the source and of the tests.
fn functions() -> BTreeSet<String> {
    let (mut found, mut folders) = (BTreeSet::new(), vec![source(), source().with_file_name("tests")]);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a text file");
                let names = text.lines().filter_map(|line| line.split_once("fn ")?.1.split('(').next());
                found.extend(names.map(str::to_owned));
            }
        }
    }
    found
}

#[test]
fn every_test_that_a_promise_rests_on_is_there() {
    let (root, functions) = (Path::new(env!("CARGO_MANIFEST_DIR")), functions());
    let mut named = 0;
    for page in ["docs/guarantees.md", "docs/threat-model.md"] {
        let text = fs::read_to_string(root.join(page)).expect("a page");
        for name in text.split('`').skip(1).step_by(2).filter_map(|code| code.rsplit_once("::")) {
            assert!(functions.contains(name.1), "{page} names {}::{}, which is not there", name.0, name.1);
            named += 1;
        }
    }
    assert!(named > 50, "only {named} tests are named");
}
