//! Which entries go: a pure choice.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) path: PathBuf,
    pub(super) size: u64,
    pub(super) wanted: SystemTime,
}

/// Lists the entries of one folder; what vanishes meanwhile is passed over.
pub(super) fn held_in(folder: &Path) -> Vec<Held> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let held = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let data = entry.metadata().ok()?;
        let wanted = data.modified().ok()?;
        data.is_file().then(|| Held { path: entry.path(), size: data.len(), wanted })
    });
    held.collect()
}

/// Returns the entries to remove, those longest unwanted first, so that the rest fits into `max_bytes`.
pub(super) fn choose(mut held: Vec<Held>, max_bytes: u64) -> Vec<PathBuf> {
    held.sort_by_key(|entry| entry.wanted);
    let mut total: u64 = held.iter().map(|entry| entry.size).sum();
    let mut going = Vec::new();
    for entry in held {
        if total <= max_bytes {
            break;
        }
        total -= entry.size;
        going.push(entry.path);
    }
    going
}
