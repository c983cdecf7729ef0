//! What codecs may use of the machine: cores and memory, shared by all agents.
//!
//! git-lfs starts eight agents, and each may have a large object at hand. A permit is one share of the memory
//! and at least one core; a core more is taken where it is free. The memory comes first and the cores second
//! in every process, so that nobody who holds cores waits for memory.

use std::path::Path;

use crate::cancel::{self, Cancel};
use crate::config::Settings;
use crate::disk::{Slots, Taken};
use crate::error::{Error, Result};
use crate::model::limits::{CODEC_MEMORY_BYTES, PERMIT_OBJECT_MIN_BYTES, PERMIT_THREADS_MAX};

/// The shares of this machine.
#[derive(Debug)]
pub(crate) struct Budget {
    share_bytes: u64,
    memory: Slots,
    cores: Slots,
}

/// A share that is held.
#[must_use = "the share is held only as long as this lives"]
pub(crate) struct Permit {
    _memory: Taken,
    cores: Taken,
}

impl Permit {
    /// What small work needs: nothing.
    pub(crate) fn small() -> Self {
        Self { _memory: Taken::default(), cores: Taken::default() }
    }

    /// Returns how many threads may work.
    pub(crate) fn threads(&self) -> usize {
        self.cores.count().max(1)
    }
}

impl Budget {
    /// Shares memory and cores, as many as are set, among the processes that use `folder`.
    pub(crate) fn new(folder: &Path, settings: &Settings) -> Self {
        let (threads, all_bytes) = (settings.threads, settings.memory_max_bytes.max(CODEC_MEMORY_BYTES));
        let share_bytes = settings.object_memory_bytes.clamp(CODEC_MEMORY_BYTES, all_bytes);
        let shares = usize::try_from(all_bytes / share_bytes).unwrap_or(usize::MAX);
        let shares = shares.min(threads.max(1));
        Self {
            share_bytes,
            memory: Slots::new(folder.to_path_buf(), "memory", shares),
            cores: Slots::new(folder.to_path_buf(), "core", threads),
        }
    }

    /// Returns how many bytes of memory a share is.
    pub(crate) const fn share_bytes(&self) -> u64 {
        self.share_bytes
    }

    /// Waits for a share to work on an object of `size` bytes.
    ///
    /// # Errors
    /// `Cancelled`. Where locks do not work, everybody works alone.
    pub(crate) fn wait(&self, size: u64, cancel: &Cancel) -> Result<Permit> {
        if size < PERMIT_OBJECT_MIN_BYTES {
            return Ok(Permit::small());
        }
        let shares = self.memory.wait(1, cancel);
        let taken = shares.and_then(|memory| {
            let cores = self.cores.wait(PERMIT_THREADS_MAX, cancel)?;
            Ok(Permit { _memory: memory, cores })
        });
        match taken {
            Err(error) if cancel::is_cancelled(&error) => Err(Error::Cancelled),
            Err(error) => {
                tracing::warn!(%error, "cannot lock: working without a share");
                Ok(Permit::small())
            }
            taken => Ok(taken.unwrap_or_else(|_| Permit::small())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::Config;

    fn settings(memory: &str, object_memory: &str) -> Settings {
        let set = [
            ("lfs-delta.memory", memory),
            ("lfs-delta.objectmemory", object_memory),
            ("lfs-delta.threads", "2"),
        ];
        Settings::read(&Config::from_pairs(&set, &[])).expect("settings")
    }

    #[test]
    fn a_share_is_what_one_object_may_take_and_never_more_than_all() {
        let folder = tempfile::tempdir().expect("a folder");
        for (memory, object_memory, mebibytes) in
            [("2G", "1536M", 1536), ("2G", "0", 512), ("1G", "8G", 1024), ("0", "1G", 512)]
        {
            let budget = Budget::new(folder.path(), &settings(memory, object_memory));
            assert_eq!(budget.share_bytes() >> 20, mebibytes, "{memory} {object_memory}");
        }
    }

    #[test]
    fn shares_are_bounded_by_memory_and_a_small_object_needs_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let budget = Budget::new(folder.path(), &settings("1G", "512M"));
        let cancel = Cancel::default();
        let first = budget.wait(PERMIT_OBJECT_MIN_BYTES, &cancel).expect("a share");
        assert_eq!(first.threads(), 2);
        cancel.raise();
        let second = budget.wait(PERMIT_OBJECT_MIN_BYTES, &cancel);
        assert!(matches!(second, Err(Error::Cancelled)), "no core is left");
        assert_eq!(budget.wait(10, &cancel).expect("nothing to wait for").threads(), 1);
        drop(first);
        assert_eq!(budget.wait(PERMIT_OBJECT_MIN_BYTES, &Cancel::default()).expect("a share").threads(), 2);
    }
}
