//! What a whole operation can fail with, and the one table that says what to do about it.
//!
//! Every error has a kind, every kind a code that never changes, a remedy and an exit code. git-lfs shows
//! the user nothing but the message of a failed transfer: so all of it is in there.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::cancel;
use crate::codec;
use crate::config;
use crate::depot;
use crate::git;
use crate::model::{CodecName, Key, Oid};
use crate::store;

/// The outcome of an operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something failed while an object was transferred.
    #[error("cannot {doing} object {oid}: {source}")]
    Object {
        /// What was being done.
        doing: &'static str,
        /// To which object.
        oid: Oid,
        /// What failed.
        source: Box<Error>,
    },
    /// The store, or what is in it.
    #[error("{store}: {source}")]
    Depot {
        /// Which store.
        store: String,
        /// What failed.
        source: depot::Error,
    },
    /// Settings.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// git.
    #[error(transparent)]
    Git(#[from] git::Error),
    /// The local copy of an object is not the object.
    #[error("the local file {} has other bytes: their SHA-256 is {found}", path.display())]
    LocalCorrupt {
        /// The file.
        path: PathBuf,
        /// Its SHA-256.
        found: Oid,
    },
    /// The local copy of an object is not there.
    #[error("there is no local file {}", path.display())]
    LocalMissing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// No copy of an object was ever seen in the store.
    #[error("{store} has no copy of it (looked in {folder})")]
    NotStored {
        /// Which store.
        store: String,
        /// The folder of keys that is empty.
        folder: String,
    },
    /// There are copies, but none that yields the object.
    #[error("no copy in {store} yields it: {reasons}")]
    Damaged {
        /// Which store.
        store: String,
        /// Each copy that was tried, and what is wrong with it.
        reasons: String,
    },
    /// A check found objects that cannot be restored.
    #[error("{store}: {} missing or damaged, and cannot be restored", are(*.objects))]
    Unsound {
        /// Which store.
        store: String,
        /// How many objects.
        objects: usize,
    },
    /// A check found objects that can be restored, but have copies that are wrong, or none to rely on.
    #[error("{store}: {} weakened: restorable still, but a copy is wrong or not to be relied on", are(*.objects))]
    Weakened {
        /// Which store.
        store: String,
        /// How many objects.
        objects: usize,
    },
    /// A copy cannot be decoded by this version.
    #[error("{key} needs codec {codec}, which this version does not know")]
    CodecUnknown {
        /// The copy.
        key: Key,
        /// Its codec.
        codec: CodecName,
    },
    /// The local disk.
    #[error("cannot {doing}: {source}")]
    Disk {
        /// What was being done.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// Something failed while a file of a DeltaSpace was stored or fetched.
    #[error("cannot {doing} {url}: {source}")]
    Artefact {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        url: String,
        /// What failed.
        source: Box<Error>,
    },
    /// There is no such file in a DeltaSpace.
    #[error("there is no {looked}")]
    ArtefactMissing {
        /// What was looked for.
        looked: String,
    },
    /// What is stored does not yield the file.
    #[error("{reason}")]
    ArtefactDamaged {
        /// What is wrong.
        reason: String,
    },
    /// Nothing says which bytes the file has, so that nothing proves it.
    #[error("{reason}")]
    ArtefactUnproven {
        /// What is missing.
        reason: String,
    },
    /// What is stored cannot be turned into the file by this program.
    #[error("{reason}")]
    ArtefactForeign {
        /// Why not.
        reason: String,
    },
    /// Others changed the same files again and again.
    #[error("others keep changing {key}")]
    Crowded {
        /// The file.
        key: Key,
    },
    /// The local file was written to while it was read.
    #[error("{} changed while it was stored", path.display())]
    LocalChanged {
        /// The file.
        path: PathBuf,
    },
    /// Some of several failed; each was told.
    #[error("{failed} of {total} failed")]
    Several {
        /// How many failed.
        failed: usize,
        /// How many there were.
        total: usize,
    },
    /// Something in a DeltaSpace is damaged; each was told.
    #[error("{damaged} of {total} are damaged")]
    Findings {
        /// How many are damaged.
        damaged: usize,
        /// How many were looked at.
        total: usize,
    },
    /// A transfer took longer than anything that it saw may be relied upon.
    #[error("the transfer took more than two weeks")]
    Expired,
    /// A transfer took longer than the user allows.
    #[error("the transfer took more than {} s, as lfs-delta.transferTimeout allows", patience.as_secs_f32())]
    Late {
        /// How long it was allowed to take.
        patience: Duration,
    },
    /// git-lfs or the user wants to stop.
    #[error("cancelled")]
    Cancelled,
    /// `git lfs prune` asks whether objects are in the store, in a way that nobody answers truly.
    #[error("git lfs prune cannot ask this store which objects it has, and would delete them unverified")]
    PruneRefused,
    /// What was asked for cannot be done as it was asked.
    #[error("{0}")]
    Usage(String),
    /// A fault of this program.
    #[error("lfs-delta failed unexpectedly: {0}")]
    Internal(String),
}

impl Error {
    /// Sorts an error of the local disk.
    pub fn disk(doing: impl Into<String>, source: io::Error) -> Self {
        if cancel::is_cancelled(&source) {
            return Self::Cancelled;
        }
        Self::Disk { doing: doing.into(), source }
    }

    /// Says to which object an error happened.
    pub fn about(self, doing: &'static str, oid: Oid) -> Self {
        match self {
            Self::Object { .. } | Self::Cancelled => self,
            source => Self::Object { doing, oid, source: Box::new(source) },
        }
    }

    /// Says to which file of a DeltaSpace an error happened.
    pub fn about_artefact(self, doing: &'static str, url: String) -> Self {
        match self {
            Self::Artefact { .. } | Self::Cancelled | Self::Usage(_) => self,
            source => Self::Artefact { doing, url, source: Box::new(source) },
        }
    }

    /// Returns what the reader should do.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Object { source, .. } | Self::Artefact { source, .. } => source.kind(),
            Self::ArtefactMissing { .. } => Kind::ArtefactMissing,
            Self::ArtefactDamaged { .. } | Self::Findings { .. } => Kind::ArtefactDamaged,
            Self::ArtefactUnproven { .. } => Kind::ArtefactUnproven,
            Self::ArtefactForeign { .. } => Kind::ArtefactForeign,
            Self::Crowded { .. } => Kind::Crowded,
            Self::LocalChanged { .. } => Kind::LocalChanged,
            Self::Several { .. } => Kind::Several,
            Self::Depot { source, .. } => depot_kind(source),
            Self::Config(error) => config_kind(error),
            Self::Git(git::Error::NoRepository { .. }) => Kind::NoRepository,
            Self::Git(git::Error::Incomplete) => Kind::Usage,
            Self::Git(_) => Kind::Git,
            Self::LocalCorrupt { .. } => Kind::LocalCorrupt,
            Self::LocalMissing { .. } => Kind::LocalMissing,
            Self::NotStored { .. } => Kind::NotStored,
            Self::Damaged { .. } => Kind::Damaged,
            Self::Unsound { .. } => Kind::Unsound,
            Self::Weakened { .. } => Kind::Weakened,
            Self::CodecUnknown { .. } => Kind::TooNew,
            Self::Disk { source, .. } if is_full(source) => Kind::DiskFull,
            Self::Disk { .. } => Kind::Disk,
            Self::Expired => Kind::Expired,
            Self::Late { .. } => Kind::Late,
            Self::Cancelled => Kind::Cancelled,
            Self::PruneRefused => Kind::PruneRefused,
            Self::Usage(_) => Kind::Usage,
            Self::Internal(_) => Kind::Internal,
        }
    }

    /// Returns the whole message: code, what failed with all its causes, and the remedy.
    pub fn report(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        let entry = self.kind().entry();
        format!("E{:04}: {}\nfix: {}", entry.code, printable(&text), entry.fix)
    }
}

/// Makes a text safe for a terminal: parts of it may come from strangers.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || is_bidirectional(c) { '\u{fffd}' } else { c }).collect()
}

const fn is_bidirectional(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Writes how many objects there are.
fn are(objects: usize) -> String {
    if objects == 1 { "1 object is".into() } else { format!("{objects} objects are") }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn depot_kind(error: &depot::Error) -> Kind {
    match error {
        depot::Error::NoStore { .. } => Kind::NoStoreThere,
        depot::Error::TooNew { .. } => Kind::TooNew,
        depot::Error::Manifest { .. } => Kind::ManifestDamaged,
        depot::Error::Damaged { .. } => Kind::Damaged,
        depot::Error::Random(_) => Kind::Internal,
        depot::Error::Store(error) => store_kind(error),
    }
}

fn store_kind(error: &store::Error) -> Kind {
    match error {
        store::Error::NotFound { .. } => Kind::Damaged,
        store::Error::AlreadyExists { .. } => Kind::Internal,
        store::Error::Denied { .. } => Kind::Denied,
        store::Error::Credentials { .. } => Kind::Credentials,
        store::Error::Missing { .. } => Kind::BucketMissing,
        store::Error::Unavailable { .. } => Kind::Unavailable,
        store::Error::Digest { .. } => Kind::LocalCorrupt,
        store::Error::Full { .. } => Kind::StoreFull,
        store::Error::Settings { .. } => Kind::StoreSettings,
        store::Error::Io { .. } => Kind::StoreDisk,
        store::Error::Cancelled => Kind::Cancelled,
    }
}

fn config_kind(error: &config::Error) -> Kind {
    match error {
        config::Error::NoStore { .. } => Kind::NotSetUp,
        config::Error::Url { .. } => Kind::Url,
        config::Error::Untrusted { .. } => Kind::Untrusted,
        config::Error::Refused { .. } => Kind::EndpointRefused,
        config::Error::Value { .. } => Kind::Setting,
    }
}

impl From<codec::Error> for Error {
    /// Only for what fails while encoding: there is no copy yet that could be damaged.
    fn from(error: codec::Error) -> Self {
        match error {
            codec::Error::Io(source) => Self::disk("encode", source),
            other => Self::Internal(other.to_string()),
        }
    }
}

/// What went wrong, as far as the remedy differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is explained by its row of the table")]
pub enum Kind {
    Git,
    NoRepository,
    NotSetUp,
    Url,
    Untrusted,
    EndpointRefused,
    Setting,
    NoStoreThere,
    BucketMissing,
    TooNew,
    ManifestDamaged,
    StoreSettings,
    StoreFull,
    StoreDisk,
    Denied,
    Credentials,
    Unavailable,
    Late,
    LocalCorrupt,
    LocalMissing,
    NotStored,
    Damaged,
    Unsound,
    Weakened,
    ArtefactMissing,
    ArtefactDamaged,
    ArtefactUnproven,
    ArtefactForeign,
    LocalChanged,
    Crowded,
    Several,
    DiskFull,
    Disk,
    Expired,
    Cancelled,
    PruneRefused,
    Usage,
    Internal,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindEntry {
    /// Which kind.
    pub kind: Kind,
    /// Its number, which never changes; printed as `E` and four digits.
    pub code: u32,
    /// What the process exits with.
    pub exit: u8,
    /// What the user can do.
    pub fix: &'static str,
}

const fn row(kind: Kind, code: u32, exit: u8, fix: &'static str) -> KindEntry {
    KindEntry { kind, code, exit, fix }
}

/// All kinds. Codes are never given twice, not even after a kind is gone.
pub const KINDS: &[KindEntry] = &[
    row(Kind::Git, 1001, 1, "see whether `git config --list` works here; git must be in PATH"),
    row(
        Kind::NoRepository,
        1002,
        2,
        "run this inside of a git repository, or name a store: --store URL; a DeltaSpace: s3://… or file:///…",
    ),
    row(
        Kind::NotSetUp,
        1003,
        10,
        "run `lfs-delta init s3://bucket/prefix` and commit .lfsconfig, or set lfs.url in git config",
    ),
    row(
        Kind::Url,
        1004,
        2,
        "correct lfs.url (or --store): lfs-delta::s3://bucket/prefix?region=… or lfs-delta::file:///path",
    ),
    row(
        Kind::Untrusted,
        1005,
        6,
        "if you know this host, run `lfs-delta trust HOST` with its name and try again",
    ),
    row(
        Kind::EndpointRefused,
        1006,
        6,
        "do not use this repository before you know who wrote its .lfsconfig",
    ),
    row(Kind::Setting, 1007, 2, "correct the setting, or remove it to get the default"),
    row(Kind::Usage, 1008, 2, "see `lfs-delta help` for the commands and what they take"),
    row(
        Kind::NoStoreThere,
        2001,
        10,
        "check bucket and prefix; if the store is new, run `lfs-delta init` with its URL first",
    ),
    row(
        Kind::BucketMissing,
        2002,
        10,
        "check the name of the bucket or directory; create it, or mount it, first",
    ),
    row(Kind::TooNew, 2003, 9, "install the latest version of lfs-delta"),
    row(
        Kind::ManifestDamaged,
        2004,
        5,
        "restore lfs-delta.json from a backup, or ask whoever administers the store",
    ),
    row(
        Kind::StoreSettings,
        2005,
        2,
        "set the region (?region=… in the store URL, or AWS_REGION) and check the endpoint",
    ),
    row(
        Kind::StoreFull,
        2006,
        8,
        "free space or raise the quota where the store is, then repeat; nothing was lost",
    ),
    row(
        Kind::StoreDisk,
        2007,
        8,
        "check the disk or share that the store is on, then repeat; nothing was lost",
    ),
    row(
        Kind::Denied,
        3001,
        7,
        "your credentials need the right to list, read and add in this store (s3:ListBucket, s3:GetObject, s3:PutObject)",
    ),
    row(
        Kind::Credentials,
        3002,
        7,
        "log in (aws sso login, AWS_PROFILE, AWS_ACCESS_KEY_ID …), check the clock of this machine, and repeat; nothing was lost",
    ),
    row(
        Kind::Unavailable,
        4001,
        8,
        "check the network and the address of the store, then repeat; nothing was lost",
    ),
    row(
        Kind::Late,
        4002,
        8,
        "repeat the command, a large upload goes on where it stopped; or raise lfs-delta.transferTimeout",
    ),
    row(
        Kind::LocalCorrupt,
        5001,
        5,
        "run `git lfs fsck`, restore the file from another clone, then push again",
    ),
    row(Kind::LocalMissing, 5002, 4, "run `git lfs fetch --all` from where the object is, then push again"),
    row(
        Kind::NotStored,
        5003,
        4,
        "whoever committed it must run `git lfs push --all` (was it pushed with --no-verify?)",
    ),
    row(
        Kind::Damaged,
        5004,
        5,
        "from a clone that has the object run `git lfs push --object-id REMOTE OID`; the damaged copies stay unused",
    ),
    row(
        Kind::Unsound,
        5005,
        5,
        "run `lfs-delta verify --read-data --repair`, then `git lfs push --all REMOTE` from a clone that has the objects",
    ),
    row(Kind::Weakened, 5006, 3, "run `lfs-delta verify --read-data --repair`; nothing is lost yet"),
    row(
        Kind::ArtefactMissing,
        5101,
        4,
        "list what is there with `lfs-delta ls URL/`; names are those of the files that were put",
    ),
    row(
        Kind::ArtefactDamaged,
        5102,
        5,
        "put the file again from where it came from: that replaces what is damaged; a damaged reference.bin is restored from a backup",
    ),
    row(
        Kind::ArtefactUnproven,
        5103,
        6,
        "put the file again from where it came from, or restore the metadata (copy with a tool that keeps it: aws s3 cp does)",
    ),
    row(
        Kind::ArtefactForeign,
        5104,
        5,
        "put the file again from where it came from, or fetch it with the tool that stored it",
    ),
    row(Kind::LocalChanged, 5105, 1, "wait until nobody writes to the file any more, then put it again"),
    row(Kind::Crowded, 5106, 8, "wait until the others are done, then repeat; nothing was lost"),
    row(Kind::Several, 5107, 3, "see what was said about each of them, and repeat for those"),
    row(Kind::DiskFull, 6001, 1, "free space on the local disk, then repeat; nothing was lost"),
    row(Kind::Disk, 6002, 1, "check rights and space of the local disk, then repeat; nothing was lost"),
    row(Kind::Cancelled, 7001, 130, "repeat the command to go on; what is complete is not sent again"),
    row(Kind::Expired, 7002, 1, "repeat the command; what is complete is not sent again"),
    row(
        Kind::PruneRefused,
        7003,
        6,
        "run `git lfs prune --no-verify-remote` only after `git push` succeeded for all branches",
    ),
    row(
        Kind::Internal,
        9001,
        1,
        "please report this with the log file (LFS_DELTA_LOG=debug); nothing was lost",
    ),
];

impl Kind {
    /// Returns the row of this kind.
    pub fn entry(self) -> &'static KindEntry {
        // A test holds that every kind has one.
        KINDS.iter().find(|entry| entry.kind == self).unwrap_or(&KINDS[KINDS.len() - 1])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_kind_has_one_row_with_a_code_of_its_own_and_a_remedy() {
        // Breaks when a kind is added without being listed here, by the last one's number.
        assert_eq!(KINDS.len(), Kind::Internal as usize + 1);
        let kinds: HashSet<_> = KINDS.iter().map(|entry| entry.kind as usize).collect();
        let codes: HashSet<_> = KINDS.iter().map(|entry| entry.code).collect();
        assert_eq!((kinds.len(), codes.len()), (KINDS.len(), KINDS.len()));
        for entry in KINDS {
            assert!((1000..10_000).contains(&entry.code) && entry.fix.len() > 20, "{entry:?}");
            assert_ne!(entry.exit, 0, "{entry:?}");
        }
    }

    #[test]
    fn the_documents_list_every_code_with_its_remedy() {
        let page = include_str!("../docs/errors.md");
        for KindEntry { code, exit, fix, .. } in KINDS {
            let row = format!("| E{code:04} | {fix} | {exit} |");
            assert!(page.contains(&row), "docs/errors.md lacks: {row}");
        }
    }

    #[test]
    fn a_report_names_object_cause_code_and_remedy() {
        let oid = Oid::of(b"");
        let key = "objects/ab".to_owned();
        let source = store::Error::Denied { verb: store::Verb::List, key, reason: "AccessDenied".into() };
        let error =
            Error::Depot { store: "s3://bucket".into(), source: source.into() }.about("download", oid);
        let report = error.report();
        for part in [
            "E3001: ",
            &oid.to_string(),
            "s3://bucket",
            "list objects/ab",
            "AccessDenied",
            "\nfix: your credentials",
        ] {
            assert!(report.contains(part), "{part:?} is missing in {report}");
        }
        assert_eq!(report.lines().count(), 2);
    }

    #[test]
    fn a_report_carries_no_terminal_escapes() {
        let report = Error::Usage("a\x1b[2Jb\nc\u{202e}".into()).report();
        assert!(!report.contains('\x1b') && !report.contains('\u{202e}'));
        assert_eq!(report.lines().count(), 2);
    }
}
