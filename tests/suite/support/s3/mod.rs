//! An S3 server inside the test process: strict, in memory, countable, and able to fail on plan.
//!
//!     socket (wire) → log → plan of faults → s3s (signatures, XML) → backend → state
//!
//! It speaks plain HTTP on a loopback port of its own, with path-style addresses. It stops when it
//! is dropped.

mod backend;
mod body;
mod faults;
mod log;
mod serve;
mod state;
mod uploads;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lfs_delta::cancel::Cancel;
use lfs_delta::model::Location;
use lfs_delta::store::s3::{Access, Anonymous};
use lfs_delta::store::{S3Options, S3Store};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::crypto::{Checksum as _, Md5};
use s3s::host::SingleDomain;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Result, s3_error};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use self::backend::Backend;
use self::faults::Plan;
use self::log::Log;
use self::state::{Rules, Stored};
use super::endpoint::Endpoint;
use super::run::wait_until;

pub use self::faults::{Fault, Which, any, on, on_verb, written};
pub use self::log::{Call, Calls, Kind};

const ACCESS_KEY: &str = "AKIDFORTESTSONLY";
/// Distinctive, so that a test can look for it in logs and messages.
const SECRET_KEY: &str = "secret-that-must-never-be-printed";
const BUCKET: &str = "lfs-test";

/// The certificate of the authority that the TLS server's own is from, for 100 years from 2026.
pub const AUTHORITY: &str = include_str!("tls/ca.pem");

fn tls_acceptor() -> TlsAcceptor {
    let certificate =
        CertificateDer::from_pem_slice(include_bytes!("tls/server.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server.key")).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into());
    let config = config.with_safe_default_protocol_versions().expect("TLS 1.2 and 1.3").with_no_client_auth();
    Arc::new(config.with_single_cert(vec![certificate], key).expect("a key for the certificate")).into()
}

/// How long `wait_for` waits: far more than any call takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server. Dropping it stops it.
pub struct S3Server {
    /// Where it listens and who may come in; with one empty bucket.
    pub endpoint: Endpoint,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

/// What the server's connections and the test both hold.
struct Shared {
    service: S3Service,
    backend: Backend,
    log: Log,
    plan: Plan,
    /// Counts calls of `release`; a hanging request goes on at the next.
    released: watch::Sender<u64>,
    /// How connections are ended. Each of them listens to this.
    goodbyes: watch::Sender<Goodbye>,
}

/// How a server ends a connection that nobody uses.
#[derive(Clone, Copy, Debug)]
pub enum Goodbye {
    /// By an end of file, as servers do after some seconds.
    Close,
    /// By a reset, as routers do that have forgotten it.
    Reset,
}

impl S3Server {
    /// Starts a server with one empty bucket.
    pub fn start() -> S3Server {
        S3Server::start_with("127.0.0.1:0", None, None)
    }

    /// Starts one on the loopback address of IPv6.
    pub fn start_v6() -> S3Server {
        S3Server::start_with("[::1]:0", None, None)
    }

    /// Starts one that also understands `http://bucket.DOMAIN/key`, for whoever reaches it as its proxy.
    pub fn start_with_domain(domain: &str) -> S3Server {
        S3Server::start_with("127.0.0.1:0", None, Some(domain))
    }

    /// Starts one that speaks TLS. Nobody trusts it but whoever knows the authority in `AUTHORITY`.
    pub fn start_tls() -> S3Server {
        S3Server::start_with("127.0.0.1:0", Some(tls_acceptor()), None)
    }

    fn start_with(address: &str, tls: Option<TlsAcceptor>, domain: Option<&str>) -> S3Server {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("s3-server")
            .enable_all()
            .build()
            .expect("a runtime");
        let shared = Arc::new(Shared::new(domain));
        let listener = std::net::TcpListener::bind(address).expect("a loopback port");
        listener.set_nonblocking(true).expect("a listener tokio can take");
        let address = listener.local_addr().expect("the address just bound");
        runtime.spawn(serve::accept(listener, tls, shared.clone()));
        let endpoint = Endpoint {
            url: format!("{scheme}://{address}"),
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
            bucket: BUCKET.to_owned(),
        };
        let server = S3Server { endpoint, shared, runtime: Some(runtime) };
        server.create_bucket(BUCKET);
        server
    }

    // ---- what was asked

    /// All calls so far.
    pub fn calls(&self) -> Calls {
        self.shared.log.snapshot()
    }

    /// All calls since the last time; the next count starts at nothing.
    pub fn take_calls(&self) -> Calls {
        self.shared.log.take()
    }

    /// Fails the test unless the calls since the last time were these, as `Calls::summary` has
    /// them: `server.expect_calls("2 List, 1 Put")`.
    #[track_caller]
    pub fn expect_calls(&self, summary: &str) -> Calls {
        let calls = self.take_calls();
        assert_eq!(calls.summary(), summary, "the calls were:\n{calls}");
        calls
    }

    /// Waits until `wanted` holds of the calls so far. Use it instead of a sleep.
    ///
    /// # Panics
    /// After 30 seconds, showing the calls.
    pub fn wait_for(&self, wanted: impl Fn(&Calls) -> bool) -> Calls {
        self.shared.log.wait_for(PATIENCE, wanted)
    }

    // ---- what is to go wrong

    /// Plans a fault: `server.fail(on(Kind::Put).key("objects/").nth(2), Fault::slow_down())`.
    pub fn fail(&self, which: Which, fault: Fault) {
        self.shared.plan.add(which, fault);
    }

    /// Forgets all planned faults and returns how many had been done.
    pub fn heal(&self) -> usize {
        self.shared.plan.clear()
    }

    /// Lets requests go on that hang by `Fault::Hang`.
    pub fn release(&self) {
        self.shared.released.send_modify(|count| *count += 1);
    }

    /// Ends all connections and waits until they are gone. A request that is under way is still answered before a close.
    #[track_caller]
    pub fn hang_up(&self, goodbye: Goodbye) {
        let goodbyes = &self.shared.goodbyes;
        assert!(goodbyes.receiver_count() > 0, "nobody is connected");
        goodbyes.send_replace(goodbye);
        assert!(wait_until(PATIENCE, || goodbyes.receiver_count() == 0), "a connection stays");
    }

    /// Refuses DELETE, and PUT of other bytes under an existing key, from now on.
    pub fn refuse_delete_and_overwrite(&self) {
        self.rules(|rules| rules.append_only = true);
    }

    /// What `refuse_delete_and_overwrite` has refused: `DELETE key`, `PUT key`.
    pub fn refused(&self) -> Vec<String> {
        self.shared.backend.state().refused.clone()
    }

    /// Answers conditional requests as if they had no condition, as some stores do.
    pub fn ignore_conditions(&self) {
        self.rules(|rules| rules.ignore_conditions = true);
    }

    /// Answers whole objects where ranges are asked for, as a simple web server does.
    pub fn ignore_ranges(&self) {
        self.rules(|rules| rules.ignore_ranges = true);
    }

    /// Refuses checksums in any request, as older services do.
    pub fn refuse_checksums(&self) {
        self.rules(|rules| rules.refuse_checksums = true);
    }

    /// Lists parts of uploads without their checksums.
    pub fn hide_part_checksums(&self) {
        self.rules(|rules| rules.hide_part_checksums = true);
    }

    /// Lets everybody read and list, credentials or none.
    pub fn make_public(&self) {
        self.rules(|rules| rules.public = true);
    }

    /// Lets everybody do everything, credentials or none.
    pub fn make_open(&self) {
        self.rules(|rules| rules.open = true);
    }

    /// Returns the product's store in this server's bucket, for somebody without credentials.
    pub fn open_store(&self, options: S3Options) -> S3Store {
        self.make_open();
        let url = self.endpoint.store_url("p");
        let Ok(Location::S3(location)) = Location::parse(&url) else { panic!("no S3 URL: {url}") };
        let access = Access { anonymous: Anonymous::Always, ..options.access };
        S3Store::new(location, S3Options { access, ..options }, Cancel::default())
    }

    /// Tells this region to whoever asks where the bucket is.
    pub fn be_in(&self, region: &'static str) {
        self.rules(|rules| rules.region = Some(region));
    }

    /// Cuts listings into pages of at most this many entries.
    pub fn list_in_pages_of(&self, entries: usize) {
        self.rules(|rules| rules.page_max = entries);
    }

    /// Allows parts below S3's 5 MiB, for small tests of multipart uploads.
    pub fn allow_parts_of(&self, bytes: usize) {
        self.rules(|rules| rules.part_min_bytes = bytes);
    }

    /// Lets listings show what is there now, and nothing that comes later, until `catch_up`.
    pub fn lag(&self) {
        let mut state = self.shared.backend.state();
        state.listed = Some(state.buckets.clone());
    }

    /// Lets listings show everything again.
    pub fn catch_up(&self) {
        self.shared.backend.state().listed = None;
    }

    fn rules(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.shared.backend.state().rules);
    }

    // ---- what is stored, behind the client's back

    /// Makes another bucket.
    pub fn create_bucket(&self, name: &str) {
        self.shared.backend.state().create_bucket(name).expect("a new bucket");
    }

    /// Everything in the bucket: keys and bytes.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        self.with_bucket(|objects| {
            objects.iter().map(|(key, stored)| (key.clone(), stored.bytes.clone())).collect()
        })
    }

    /// All keys that start with `prefix`, in order.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        self.with_bucket(|objects| objects.keys().filter(|key| key.starts_with(prefix)).cloned().collect())
    }

    /// Sum of the sizes of all objects whose keys start with `prefix`.
    pub fn stored_bytes(&self, prefix: &str) -> u64 {
        self.objects().iter().filter(|(key, _)| key.starts_with(prefix)).map(|(_, b)| b.len() as u64).sum()
    }

    /// The bytes of one object.
    pub fn get_raw(&self, key: &str) -> Option<Bytes> {
        self.with_bucket(|objects| objects.get(key).map(|stored| stored.bytes.clone()))
    }

    /// Stores or replaces an object, as another client would.
    pub fn put_raw(&self, key: &str, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        let mut md5 = Md5::new();
        md5.update(&bytes);
        let etag = body::hex(&md5.finalize());
        let stored = Stored { bytes, etag, ..Stored::default() };
        self.with_bucket(|objects| objects.insert(key.to_owned(), stored));
    }

    /// The user metadata of one object.
    pub fn metadata(&self, key: &str) -> BTreeMap<String, String> {
        self.with_bucket(|objects| {
            let stored = objects.get(key).unwrap_or_else(|| panic!("no object {key}"));
            stored.metadata.clone().unwrap_or_default().into_iter().collect()
        })
    }

    /// Changes the user metadata of one object, as a tool that copies files does.
    pub fn change_metadata(&self, key: &str, change: impl FnOnce(&mut BTreeMap<String, String>)) {
        let mut metadata = self.metadata(key);
        change(&mut metadata);
        self.with_bucket(|objects| {
            let stored = objects.get_mut(key).expect("an object just seen");
            stored.metadata = Some(metadata.into_iter().collect());
        });
    }

    /// Removes an object, as another client would. Returns whether it was there.
    pub fn delete_raw(&self, key: &str) -> bool {
        self.with_bucket(|objects| objects.remove(key).is_some())
    }

    /// Damages an object as a bad disk does: bytes change; size, ETag and checksums do not.
    ///
    /// # Panics
    /// If there is no such object.
    pub fn damage(&self, key: &str, damage: impl FnOnce(&mut Vec<u8>)) {
        self.with_bucket(|objects| {
            let stored = objects.get_mut(key).unwrap_or_else(|| panic!("no object {key}"));
            let mut bytes = stored.bytes.to_vec();
            damage(&mut bytes);
            stored.bytes = bytes.into();
        });
    }

    /// Flips the lowest bit of one byte.
    pub fn flip_byte(&self, key: &str, at: usize) {
        self.damage(key, |bytes| bytes[at] ^= 1);
    }

    /// Cuts an object to its first `length` bytes.
    pub fn truncate(&self, key: &str, length: usize) {
        self.damage(key, |bytes| bytes.truncate(length));
    }

    /// Everything that is stored now.
    pub fn still(&self) -> Still {
        Still(self.with_bucket(|objects| objects.clone()))
    }

    /// Makes everything what it was; forgets uploads in parts, faults and calls.
    pub fn restore(&self, still: &Still) {
        self.with_bucket(|objects| objects.clone_from(&still.0));
        self.shared.backend.state().uploads.clear();
        self.heal();
        self.take_calls();
    }

    /// Keys of multipart uploads that were begun and neither completed nor aborted.
    pub fn open_uploads(&self) -> Vec<String> {
        self.shared.backend.state().uploads.values().map(|upload| upload.key.clone()).collect()
    }

    /// Flips a bit of the first part that was sent, and changes its tag and checksums as if it had been sent like that.
    #[track_caller]
    pub fn damage_a_part(&self) {
        let mut state = self.shared.backend.state();
        let upload = state.uploads.values_mut().next().expect("an open upload");
        uploads::damage(upload.parts.values_mut().next().expect("a part"));
    }

    fn with_bucket<T>(&self, act: impl FnOnce(&mut state::Objects) -> T) -> T {
        let mut state = self.shared.backend.state();
        act(state.buckets.get_mut(&self.endpoint.bucket).expect("the test's bucket"))
    }
}

/// What a bucket held at some time.
#[derive(Clone)]
pub struct Still(state::Objects);

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn new(domain: Option<&str>) -> Shared {
        let backend = Backend::default();
        let mut builder = S3ServiceBuilder::new(backend.clone());
        builder.set_auth(OneUser);
        builder.set_access(Doorkeeper(backend.clone()));
        if let Some(domain) = domain {
            builder.set_host(SingleDomain::new(domain).expect("a domain"));
        }
        Shared {
            service: builder.build(),
            backend,
            log: Log::default(),
            plan: Plan::default(),
            released: watch::Sender::new(0),
            goodbyes: watch::Sender::new(Goodbye::Close),
        }
    }
}

/// Lets strangers do what the rules allow, and those who signed everything.
struct Doorkeeper(Backend);

#[async_trait::async_trait]
impl S3Access for Doorkeeper {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let rules = self.0.state().rules;
        let reads = matches!(*context.method(), http::Method::GET | http::Method::HEAD);
        let asks_where = context.s3_op().name() == "HeadBucket" && rules.region.is_some();
        if context.credentials().is_some() || rules.open || (rules.public && reads) || asks_where {
            return Ok(());
        }
        Err(s3_error!(AccessDenied, "Signature is required"))
    }
}

/// Knows one access key and answers S3's own code for any other.
struct OneUser;

#[async_trait::async_trait]
impl S3Auth for OneUser {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == ACCESS_KEY {
            Ok(SecretKey::from(SECRET_KEY))
        } else {
            Err(s3_error!(InvalidAccessKeyId, "the access key does not exist"))
        }
    }
}
