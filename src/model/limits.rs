//! Every bound of the program, with its unit and its reason.

use std::time::Duration;

/// Most copies that a chain may have, the delta itself included. Only a guard against endless recursion: the
/// two cost bounds below end a chain long before.
pub const CHAIN_DEPTH_MAX: usize = 16;

/// What reading a whole chain from the store may cost, in percent of the whole compressed object.
pub const COLD_READ_MAX_PERCENT: u64 = 125;

/// What decoding a whole chain may write, in multiples of the object, expanded text included. A sheet expands
/// tenfold, and a link counts both of its sides: that makes six links; of what does not expand the depth is the bound.
/// `docs/chains.md` has the table that it was chosen by.
pub const DECODE_WORK_MAX_RATIO: u64 = 128;

/// A delta is kept only when it is at most this share of the whole compressed object: below, it would
/// save less than the slower read is worth.
pub const DELTA_MAX_PERCENT: u64 = 75;

/// How large a delta over several versions is thought to be at least, in percent of the deltas between them. It is tried
/// where that would fit: more is too timid, and less encodes in vain (`docs/chains.md`).
pub const LOWER_DELTA_PERCENT: u64 = 70;

/// What a delta must save at least, and so the size of an object up to which none is tried: a delta costs a request
/// more than a whole copy, to push and to read with nothing at hand. A request costs as much as keeping 18 kB for a
/// year, and as much time as sending 40 kB and more; 4 KiB leaves that to those who keep objects for long.
pub const DELTA_SAVING_MIN_BYTES: u64 = 4 * 1024;

/// Objects from this size on are looked up among the hints of their DeltaSpace where git leads to no base, and leave
/// one where git will not lead to them: for smaller ones two more requests take longer than the bytes they save.
pub const HINT_OBJECT_MIN_BYTES: u64 = 1 << 20;

/// Hints of one DeltaSpace that are looked at: those of one request.
pub const HINTS_MAX: usize = 1000;

/// Objects of one DeltaSpace, or with a name that resembles, that are thought of as bases: the nearest by name.
pub const RELATIVES_MAX: usize = 16;

/// Candidates of which a copy is looked for in the store, for one object.
pub const CANDIDATES_TRIED_MAX: usize = 3;

/// A base that is smaller than the object by more than this cannot save much of it.
pub const CANDIDATE_SIZE_MAX_RATIO: u64 = 16;

/// Of an object so many of its first bytes are sketched.
pub const SKETCHED_MAX_BYTES: u64 = 64 << 20;

/// Of the candidates, so many are sketched for one object ...
pub const SKETCHES_MAX: usize = 6;

/// ... as long as they have no more bytes together than this many times the object.
pub const SKETCHED_MAX_RATIO: u64 = 8;

/// A packed whole copy must save this share of the object, else it is stored exactly as it is.
pub const WHOLE_SAVING_MIN_PERCENT: u64 = 3;

/// Earlier versions of one path that a push may have to publish first.
pub const HISTORY_MAX_VERSIONS: usize = 10_000;

/// The largest header of a copy: fixed fields, a full chain and the checksum.
pub const HEADER_MAX_BYTES: usize = 8 + 80 + 80 * CHAIN_DEPTH_MAX + 32;

/// What one encoding takes of the memory beyond mapped files at most, where it is not set: the table of a base's
/// strings, and models for a few threads. There is nothing to be gained from less.
pub const CODEC_MEMORY_BYTES: u64 = 512 << 20;

/// What of it the table leaves to all else. The table grows with the base up to the rest; then its step does.
pub const CODEC_MEMORY_BESIDE_TABLE_BYTES: u64 = 256 << 20;

/// What all agents of a machine take together at most, where it is not set.
pub const MEMORY_MAX_BYTES: u64 = 2 << 30;

/// Threads that are ever used: more than any machine gains from.
pub const THREADS_MAX: usize = 256;

/// Threads of one encoding: its table takes half of its share of the memory, and a thread's models 80 MiB.
pub const PERMIT_THREADS_MAX: usize = 3;

/// Work on smaller objects takes milliseconds and little memory: it waits for nobody.
pub const PERMIT_OBJECT_MIN_BYTES: u64 = 1 << 20;

/// zstd's largest window, base and target together (2^31 bytes); larger pairs are stored whole.
pub const ZSTD_WINDOW_MAX_BYTES: u64 = 1 << 31;

/// The buffer of every copying loop. Larger ones were measured to gain nothing.
pub const BUFFER_BYTES: usize = 256 * 1024;

/// Objects up to this size are read once, and what is made of them waits in memory: one buffer. Larger ones may go up in
/// parts, which are read from a file.
pub const SMALL_OBJECT_MAX_BYTES: u64 = BUFFER_BYTES as u64;

/// Base bytes up to this size are kept in memory, larger ones in an unlinked temporary file.
pub const MEMORY_SPILL_MIN_BYTES: u64 = 16 * 1024 * 1024;

/// What all buffers of an encoding or decoding hold in memory together; beyond, each of some size goes to a file.
pub const ROOMS_MEMORY_MAX_BYTES: usize = 160 << 20;

/// Buffers up to this size stay in memory: a system allows a process some 65,000 mappings.
pub const ROOM_MAPPED_MIN_BYTES: usize = 64 * 1024;

/// Objects that look wrong to a check and are looked at again one by one; of more the whole store is listed again.
pub const SUSPECTS_LOOKED_AT_ALONE: usize = 64;

/// Copies that a check reads at once: small ones wait for the network, large ones for a permit.
pub const READERS: usize = 8;

/// Bytes of a file in a directory store that are written before they are synced: half a second of a slow disk.
pub const SYNC_BYTES: usize = 64 << 20;

/// How old a listing may be that an "already stored" may rely on (store protocol, rule 5).
pub const LISTING_AGE_MAX: Duration = Duration::from_secs(60);

/// Larger objects are looked for once more before they are stored, where the last listing may be a minute old: another
/// machine may have stored them since. Smaller ones cost no more than that request.
pub const LOOK_AGAIN_MIN_BYTES: u64 = 128 * 1024;

/// Bytes of what a machine remembers of one shard of a store: beyond, it begins anew, which costs requests. That are some
/// twenty thousand objects, five million in all shards.
pub const MEMORY_FILE_MAX_BYTES: u64 = 4 << 20;

/// Folder listings that a process asks for before it lists a shard instead.
pub const LOOKS_BEFORE_SHARDS: usize = 3;

/// Shard listings that a process asks for before it lists all objects instead.
pub const LOOKS_BEFORE_ALL: usize = 16;

/// A listing of all objects that is longer than this is given up for listings of shards.
pub const LIST_ALL_MAX_ENTRIES: usize = 100_000;

/// Pages of a listing in a row that may show nothing; a service that sends more is not followed any further.
pub const EMPTY_PAGES_MAX: usize = 100;

/// How often a reader lists again when a chain lost a copy while it was reading (store protocol, rule 7).
pub const RELISTS_MAX: usize = 4;

/// Half of the grace period after which nothing that was seen may be relied upon (store protocol, rule 6).
pub const TRANSFER_AGE_MAX: Duration = Duration::from_secs(14 * 24 * 3600);

/// Leftovers in temporary folders are removed when they are older than this: no live process is this slow.
pub const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 3600);

/// Log files older than this are removed.
pub const LOG_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// A line of git-lfs may be this long; one megabyte was seen to work with every version.
pub const LINE_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Progress lines per second that an agent writes at most.
pub const PROGRESS_PER_SECOND_MAX: u32 = 10;

/// How long a transfer may tell no progress before the last count is told again: twice a second, so that a busy machine
/// still makes it once.
pub const PROGRESS_SILENCE_MAX: Duration = Duration::from_millis(400);

/// Unanswered cancellation is enforced after this time (conformance rule 10 allows one second).
pub const CANCEL_PATIENCE: Duration = Duration::from_millis(700);

/// The share of the disk that the cache takes at most, in percent, where its size is not set.
pub const CACHE_DISK_MAX_PERCENT: u64 = 10;

/// Bytes that the cache takes at most where its size is not set.
pub const CACHE_MAX_BYTES: u64 = 10 * 1024 * 1024 * 1024;

/// How long the agents of one push share what git said of a history. Refs name it, so it is hardly ever wrong.
pub const NAMES_AGE_MAX: Duration = Duration::from_secs(600);

/// Blobs of which a process remembers whether they are pointers, and to what: a few MiB.
pub const BLOBS_KNOWN_MAX: usize = 50_000;

/// Output of one git command that is read; a longer one is cut, which costs compression only.
pub const GIT_OUTPUT_MAX_BYTES: u64 = 512 * 1024 * 1024;

/// A pointer is never longer; git-lfs itself stops at this size.
pub const POINTER_MAX_BYTES: u64 = 1024;

/// The most that one request may store, by the service's own word.
pub const SINGLE_PUT_MAX_BYTES: u64 = 5 << 30;

/// Bytes of one part of an upload in parts, where it is not set. Parts grow with the object: the service allows 10,000.
pub const PART_BYTES: u64 = 8 * 1024 * 1024;

/// Smaller parts cost more in requests than they save; most services want 5 MiB.
pub const PART_MIN_BYTES: u64 = 64 * 1024;

/// Larger parts, of files over 160 GB, do not wait in memory: they are read once more when they are sent.
pub const PART_MEMORY_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// An upload in parts that was begun longer ago is given up, not gone on with (store protocol, rule 6).
pub const UPLOAD_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Parts of one upload that are on their way at once.
pub const PARTS_IN_FLIGHT: usize = 4;

/// Copies from this size on are fetched by ranges over several connections; below, one connection is as fast.
pub const RANGES_MIN_BYTES: u64 = 32 * 1024 * 1024;

/// Bytes that one such request asks for: enough to hide its latency, and few enough to wait in memory.
pub const PIECE_BYTES: u64 = 8 * 1024 * 1024;

/// Pieces that a process fetches ahead of those that are being read, all its downloads together: 24 MiB of memory.
pub const PIECES_AHEAD_MAX: usize = 3;

/// The longest answer that is read into memory as a whole: a page of a listing has a thousand keys, an error a few lines.
pub const ANSWER_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes of an answer that must come while they are waited for as long as the patience lasts: 17 in a second, by
/// default. No line that anybody works with is as slow.
pub const ANSWER_PROGRESS_MIN_BYTES: u64 = 1024;

/// Bytes after which a download that was resumed counts as one that works: its tries are counted anew.
pub const RESUME_PROGRESS_MIN_BYTES: u64 = 1024 * 1024;
