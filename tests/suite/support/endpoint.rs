//! Where an S3 server of a test is, who may come in, and the real `aws-sdk-s3` client for it.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    retry::RetryConfig,
};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// The region of every test server.
pub const REGION: &str = "us-east-1";

/// What must be written as `%..` inside a query value.
const QUERY_VALUE: &AsciiSet = &CONTROLS.add(b' ').add(b'#').add(b'&').add(b'+').add(b'%').add(b'=');

/// An S3 server that a client can be pointed at.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `http://127.0.0.1:PORT`, without a slash behind it.
    pub url: String,
    pub access_key: String,
    pub secret_key: String,
    /// A bucket that exists.
    pub bucket: String,
}

impl Endpoint {
    /// `s3://bucket/prefix?region=…&endpoint=…&path-style=true`, as `lfs-delta init` takes it.
    pub fn store_url(&self, prefix: &str) -> String {
        let endpoint = utf8_percent_encode(&self.url, QUERY_VALUE);
        let bucket = &self.bucket;
        format!("s3://{bucket}/{prefix}?region={REGION}&endpoint={endpoint}&path-style=true")
    }

    /// `127.0.0.1:PORT`, as `lfs-delta trust` takes it.
    pub fn host(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// The environment that lets any AWS client in: credentials and region, not the endpoint.
    pub fn environment(&self) -> [(&'static str, String); 3] {
        [
            ("AWS_ACCESS_KEY_ID", self.access_key.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.secret_key.clone()),
            ("AWS_REGION", REGION.to_owned()),
        ]
    }

    /// An unmodified SDK client, quick to retry: three attempts, 5 ms back-off.
    pub fn client(&self) -> Client {
        self.client_with(|settings| settings)
    }

    /// An SDK client that sends checksums only where S3 demands one.
    pub fn plain_client(&self) -> Client {
        self.client_with(|settings| {
            settings
                .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
                .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        })
    }

    /// An SDK client that makes one attempt, and waits `patience` for the head of its answer.
    pub fn impatient_client(&self, patience: Duration) -> Client {
        self.client_with(|settings| {
            settings
                .retry_config(RetryConfig::disabled())
                .timeout_config(TimeoutConfig::builder().read_timeout(patience).build())
        })
    }

    /// An SDK client with other settings.
    pub fn client_with(&self, change: impl FnOnce(Builder) -> Builder) -> Client {
        let credentials = Credentials::new(&self.access_key, &self.secret_key, None, None, "test");
        let retry = RetryConfig::standard().with_initial_backoff(Duration::from_millis(5));
        let settings = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .credentials_provider(credentials)
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(&self.url)
            .force_path_style(true)
            .retry_config(retry);
        Client::from_conf(change(settings).build())
    }
}

/// Runs async test code to its end on a runtime of its own.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("a runtime").block_on(work)
}

/// A URL on which nobody listens: connections are refused.
pub fn closed_url() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    format!("http://{}", listener.local_addr().expect("the address just bound"))
}
