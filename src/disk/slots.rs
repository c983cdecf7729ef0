//! Slots: a number of locks of which any will do, shared by all processes of this user.
//!
//! What surprises: nothing is counted anywhere. A slot is a file that is locked; a process that dies frees its
//! slots with it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::Lock;
use crate::cancel::Cancel;

/// A number of slots in a folder.
#[derive(Debug, Clone)]
pub struct Slots {
    folder: PathBuf,
    name: &'static str,
    count: usize,
}

/// Slots that are held; they are free again when this is dropped.
#[derive(Debug, Default)]
#[must_use = "slots are held only as long as this lives"]
pub struct Taken(Vec<Lock>);

impl Taken {
    /// Returns how many slots these are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// Between two looks while none is free; a wait is for work that takes seconds.
const PAUSE: Duration = Duration::from_millis(20);

impl Slots {
    /// Names `count` slots, at least one, in `folder`, which is made when the first is taken.
    pub fn new(folder: PathBuf, name: &'static str, count: usize) -> Self {
        Self { folder, name, count: count.max(1) }
    }

    /// Waits for one slot and takes up to `most` where more are free.
    ///
    /// # Errors
    /// What the file system says; cancelled while waiting.
    pub fn wait(&self, most: usize, cancel: &Cancel) -> io::Result<Taken> {
        loop {
            let taken = self.attempt(most.max(1))?;
            if taken.count() > 0 {
                return Ok(taken);
            }
            cancel.check()?;
            std::thread::sleep(PAUSE);
        }
    }

    fn attempt(&self, most: usize) -> io::Result<Taken> {
        let mut taken = Taken::default();
        for index in 0..self.count {
            if taken.count() == most {
                break;
            }
            taken.0.extend(Lock::attempt(&self.folder.join(format!("{}.{index}", self.name)))?);
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_slot_is_taken_twice_and_all_are_free_afterwards() {
        let folder = tempfile::tempdir().expect("a folder");
        let slots = Slots::new(folder.path().join("slots"), "core", 3);
        let two = slots.wait(2, &Cancel::default()).expect("free");
        let one = slots.wait(9, &Cancel::default()).expect("free");
        assert_eq!((two.count(), one.count()), (2, 1));
        assert_eq!(slots.attempt(1).expect("looked").count(), 0);
        drop(two);
        assert_eq!(slots.wait(9, &Cancel::default()).expect("free").count(), 2);
    }

    #[test]
    fn who_waits_for_a_slot_can_be_cancelled() {
        let folder = tempfile::tempdir().expect("a folder");
        let slots = Slots::new(folder.path().to_owned(), "core", 1);
        let _taken = slots.wait(1, &Cancel::default()).expect("free");
        let cancel = Cancel::default();
        cancel.raise();
        assert!(crate::cancel::is_cancelled(&slots.wait(1, &cancel).expect_err("cancelled")));
    }
}
