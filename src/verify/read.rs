//! Reading: every copy once, each on the bytes of its base, from the reference up.
//!
//! What surprises: chains are read from below as the trees that they are. So a base is decoded once for all that are
//! built on it, and what is wrong is found where it is, not everywhere above.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::graph::{Flaw, Graph};
use super::{Progress, Watch};
use crate::depot::Folder;
use crate::disk::Bytes;
use crate::error::{Error, Result};
use crate::model::limits::{CHAIN_DEPTH_MAX, READERS};
use crate::model::{CopyId, Oid, StoredCopy};
use crate::threads;
use crate::transfer::{Keep, Rebuilt, Transfer};

/// What reading found.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) copies: usize,
    pub(super) bytes: u64,
    pub(super) flaws: HashMap<CopyId, Flaw>,
}

/// Reads the copies of the wanted objects that nobody condemned, and all that they are built on.
pub(super) fn read(
    transfer: &Transfer,
    graph: &Graph,
    is_wanted: &(dyn Fn(&Oid) -> bool + Sync),
    watch: Watch<'_>,
) -> Result<Seen> {
    let forest = Forest::of(graph, is_wanted);
    watch(Progress::Total(forest.size));
    let reader = Reader { transfer, forest: &forest, watch, seen: Mutex::default() };
    let next = AtomicUsize::new(0);
    let work = || loop {
        let Some(root) = forest.roots.get(next.fetch_add(1, Ordering::Relaxed)) else { return Ok(()) };
        reader.read_tree(root, None)?;
    };
    let outcomes: Vec<Result<()>> = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS).map_while(|_| threads::start_in(scope, work).ok()).collect();
        // Where the system refuses even one, all is read here.
        let own = readers.is_empty().then(work);
        readers.into_iter().map(join).chain(own).collect()
    });
    outcomes.into_iter().collect::<Result<()>>()?;
    Ok(reader.seen.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn join(thread: std::thread::ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    thread.join().unwrap_or_else(|_| Err(Error::Internal("a reading thread failed".into())))
}

/// The copies to read, as trees that grow from whole copies.
struct Forest {
    roots: Vec<StoredCopy>,
    above: HashMap<CopyId, Vec<StoredCopy>>,
    size: u64,
}

impl Forest {
    fn of(graph: &Graph, is_wanted: &dyn Fn(&Oid) -> bool) -> Self {
        let wanted = graph.folders().filter(|(oid, _)| is_wanted(oid));
        let mut chosen: HashSet<CopyId> = HashSet::new();
        let mut forest = Self { roots: Vec::new(), above: HashMap::new(), size: 0 };
        for copy in wanted.flat_map(|(_, folder)| Folder::uncondemned(folder)) {
            forest.choose(graph, copy, &mut chosen);
        }
        forest
    }

    /// Takes a copy with all that it is built on; a chain with a gap or without an end cannot be read.
    fn choose(&mut self, graph: &Graph, copy: &StoredCopy, chosen: &mut HashSet<CopyId>) {
        let mut chain = vec![*copy];
        while let Some(base) = chain[chain.len() - 1].name.base() {
            let found = graph.folder(&base.oid).and_then(|folder| folder.find(&base));
            let Some(found) = found.filter(|_| chain.len() < CHAIN_DEPTH_MAX) else { return };
            chain.push(found);
        }
        for copy in chain {
            if !chosen.insert(copy.name.id) {
                return;
            }
            self.size += copy.size;
            match copy.name.base() {
                None => self.roots.push(copy),
                Some(base) => self.above.entry(base).or_default().push(copy),
            }
        }
    }
}

struct Reader<'a> {
    transfer: &'a Transfer,
    forest: &'a Forest,
    watch: Watch<'a>,
    seen: Mutex<Seen>,
}

impl Reader<'_> {
    /// Reads a copy and then what is built on it; on a copy that is wrong nothing can be read.
    fn read_tree(&self, copy: &StoredCopy, base: Option<&Bytes>) -> Result<()> {
        let above = self.forest.above.get(&copy.name.id).map_or(&[][..], Vec::as_slice);
        let keep = if above.is_empty() { Keep::Nothing } else { Keep::Bytes };
        let rebuilt = self.transfer.rebuild(copy, base, keep)?;
        let flaw = match &rebuilt {
            Rebuilt::Right(_) => None,
            Rebuilt::Wrong(reason) => Some(Flaw::Wrong { reason: reason.clone() }),
            Rebuilt::Unknown(codec) => Some(Flaw::Unknown { codec: *codec }),
        };
        self.note(copy, flaw);
        let Rebuilt::Right(bytes) = rebuilt else { return Ok(()) };
        above.iter().try_for_each(|copy| self.read_tree(copy, bytes.as_ref()))
    }

    fn note(&self, copy: &StoredCopy, flaw: Option<Flaw>) {
        (self.watch)(Progress::Read(copy.size));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.copies += 1;
        seen.bytes += copy.size;
        if let Some(flaw) = flaw {
            seen.flaws.insert(copy.name.id, flaw);
        }
    }
}
