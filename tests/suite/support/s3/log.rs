//! The request log of the test server: what was asked, what was answered, how many bytes went.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

/// What a request is for, read from its verb, path, query and headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    List,
    Get,
    Head,
    Put,
    Delete,
    DeleteMany,
    Copy,
    BeginUpload,
    PutPart,
    CompleteUpload,
    AbortUpload,
    ListParts,
    ListUploads,
    HeadBucket,
    CreateBucket,
    Other,
}

/// One request as it came in.
#[derive(Clone, Debug)]
pub struct Call {
    /// What it is for.
    pub kind: Kind,
    /// `GET`, `PUT` …
    pub verb: String,
    /// First part of the path.
    pub bucket: String,
    /// Rest of the path, decoded.
    pub key: String,
    /// Query, as sent.
    pub query: String,
    /// Headers, as sent. `range`, `if-match`, `x-amz-checksum-sha256` are worth a look.
    pub headers: HeaderMap,
    /// Status of the answer; 0 while there is none, and for ever if the fault was not to answer.
    pub status: u16,
    /// Body bytes that came in, `aws-chunked` framing included.
    pub bytes_in: u64,
    /// Body bytes that went out.
    pub bytes_out: u64,
    /// The planned fault that hit it.
    pub fault: Option<String>,
}

impl Call {
    /// Reads a request's head.
    pub fn of(request: &http::request::Parts) -> Call {
        let path = request.uri.path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let query = request.uri.query().unwrap_or("");
        Call {
            kind: kind_of(request, key, query),
            verb: request.method.to_string(),
            bucket: bucket.to_owned(),
            key: percent_decode_str(key).decode_utf8_lossy().into_owned(),
            query: query.to_owned(),
            headers: request.headers.clone(),
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            fault: None,
        }
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Call { verb, bucket, key, query, status, bytes_in, bytes_out, .. } = self;
        write!(f, "{verb} {bucket}/{key}?{query} -> {status}, {bytes_in} bytes in, {bytes_out} out")?;
        self.fault.as_ref().map_or(Ok(()), |fault| write!(f, ", fault {fault}"))
    }
}

fn kind_of(request: &http::request::Parts, key: &str, query: &str) -> Kind {
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    let copies = request.headers.contains_key("x-amz-copy-source");
    match (&request.method, key.is_empty()) {
        (&Method::GET, true) if has("list-type") => Kind::List,
        (&Method::GET, true) if has("uploads") => Kind::ListUploads,
        (&Method::GET, false) if has("uploadId") => Kind::ListParts,
        (&Method::GET, false) => Kind::Get,
        (&Method::HEAD, true) => Kind::HeadBucket,
        (&Method::HEAD, false) => Kind::Head,
        (&Method::PUT, true) => Kind::CreateBucket,
        (&Method::PUT, false) if copies => Kind::Copy,
        (&Method::PUT, false) if has("partNumber") => Kind::PutPart,
        (&Method::PUT, false) => Kind::Put,
        (&Method::POST, true) if has("delete") => Kind::DeleteMany,
        (&Method::POST, false) if has("uploads") => Kind::BeginUpload,
        (&Method::POST, false) if has("uploadId") => Kind::CompleteUpload,
        (&Method::DELETE, false) if has("uploadId") => Kind::AbortUpload,
        (&Method::DELETE, false) => Kind::Delete,
        _ => Kind::Other,
    }
}

/// A list of calls with the questions tests ask of it.
#[derive(Clone, Debug, Default)]
pub struct Calls(pub Vec<Call>);

impl std::ops::Deref for Calls {
    type Target = [Call];
    fn deref(&self) -> &[Call] {
        &self.0
    }
}

impl Calls {
    /// How many calls are of this kind.
    pub fn count(&self, kind: Kind) -> usize {
        self.iter().filter(|call| call.kind == kind).count()
    }

    /// Only the calls of this kind.
    pub fn of(&self, kind: Kind) -> Calls {
        Calls(self.iter().filter(|call| call.kind == kind).cloned().collect())
    }

    /// Counts by kind, in the order of `Kind`: `"2 List, 1 Put"`, or `""`.
    pub fn summary(&self) -> String {
        let mut counts = BTreeMap::<Kind, usize>::new();
        self.iter().for_each(|call| *counts.entry(call.kind).or_default() += 1);
        let each: Vec<String> = counts.iter().map(|(kind, count)| format!("{count} {kind:?}")).collect();
        each.join(", ")
    }

    /// Keys in the order they were asked for.
    pub fn keys(&self) -> Vec<&str> {
        self.iter().map(|call| call.key.as_str()).collect()
    }

    /// Sum of all body bytes that went to the client.
    pub fn bytes_out(&self) -> u64 {
        self.iter().map(|call| call.bytes_out).sum()
    }

    /// Sum of all body bytes that came from the client.
    pub fn bytes_in(&self) -> u64 {
        self.iter().map(|call| call.bytes_in).sum()
    }
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|call| writeln!(f, "{call}"))
    }
}

/// The part of a call that changes while it is served.
#[derive(Default)]
pub struct Meter {
    status: AtomicU16,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Meter {
    pub fn add_in(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn add_out(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// All calls since the start or since they were last taken.
#[derive(Default)]
pub struct Log {
    entries: Mutex<Vec<(Call, Arc<Meter>)>>,
    changed: Condvar,
}

impl Log {
    /// Notes a request before anything is done about it.
    pub fn begin(&self, call: Call) -> Arc<Meter> {
        let meter = Arc::new(Meter::default());
        self.lock().push((call, meter.clone()));
        self.changed.notify_all();
        meter
    }

    /// Notes the answer's status, before the answer goes out.
    pub fn answered(&self, meter: &Meter, status: u16) {
        let _entries = self.lock(); // so that a waiter cannot miss it
        meter.status.store(status, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// What was logged so far.
    pub fn snapshot(&self) -> Calls {
        Calls(self.lock().iter().map(read).collect())
    }

    /// What was logged so far; forgets it.
    pub fn take(&self) -> Calls {
        Calls(std::mem::take(&mut *self.lock()).iter().map(read).collect())
    }

    /// Waits until `wanted` holds of the log.
    ///
    /// # Panics
    /// After `patience`, showing the log.
    pub fn wait_for(&self, patience: Duration, wanted: impl Fn(&Calls) -> bool) -> Calls {
        let deadline = Instant::now() + patience;
        let mut entries = self.lock();
        loop {
            let calls = Calls(entries.iter().map(read).collect());
            if wanted(&calls) {
                return calls;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the awaited calls did not come; these did:\n{calls}");
            // Bytes of a body that is under way are counted, and nobody is told.
            let nap = left.min(Duration::from_millis(20));
            entries = self.changed.wait_timeout(entries, nap).expect("log lock").0;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Call, Arc<Meter>)>> {
        self.entries.lock().expect("log lock")
    }
}

fn read((call, meter): &(Call, Arc<Meter>)) -> Call {
    Call {
        status: meter.status.load(Ordering::Relaxed),
        bytes_in: meter.bytes_in.load(Ordering::Relaxed),
        bytes_out: meter.bytes_out.load(Ordering::Relaxed),
        ..call.clone()
    }
}
