//! Credentials that are renewed: before they expire, and when the service says that they have.
//!
//! The standard AWS chain is asked, and asked anew from its files and programs each time: whoever logs in again
//! while a long transfer runs helps it. What the service refused is not sent again where nothing newer is found.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, ConfigLoader, imds};
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{Result, future};
use aws_sdk_s3::config::interceptors::{BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef};
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    ConfigBag, Credentials, Intercept, ProvideCredentials, Region, RuntimeComponents, SharedHttpClient,
};
use aws_sdk_s3::error::BoxError;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use tokio::runtime::Handle;

use super::retry;
use crate::clock;

/// Credentials that expire within this time are renewed before they are used.
const RENEW_BEFORE: Duration = Duration::from_secs(60);

/// How long a cloud machine's own metadata service may take to take a connection. It is on the machine, or there is
/// none; without any other credentials everybody who reads a public store waits for so long.
const METADATA_PATIENCE: Duration = Duration::from_millis(200);

/// Where credentials are looked for.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    pub(super) http: SharedHttpClient,
    /// The same without a proxy: what a cloud machine knows of itself is not on the network.
    pub(super) direct: SharedHttpClient,
    pub(super) timeouts: TimeoutConfig,
    pub(super) region: Region,
    pub(super) profile: Option<String>,
}

impl Chain {
    pub(super) fn loader(&self) -> ConfigLoader {
        let loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(self.http.clone())
            .timeout_config(self.timeouts.clone())
            .region(self.region.clone());
        match &self.profile {
            Some(profile) => loader.profile_name(profile),
            None => loader,
        }
    }

    async fn ask(&self) -> Result {
        let config = ProviderConfig::default()
            .with_behavior_version(Some(BehaviorVersion::v2026_01_12()))
            .with_http_client(self.http.clone())
            .with_timeout_config(self.timeouts.clone())
            .with_region(Some(self.region.clone()));
        let metadata = imds::Client::builder()
            .configure(&config.clone().with_http_client(self.direct.clone()))
            .connect_timeout(METADATA_PATIENCE);
        let mut chain =
            DefaultCredentialsChain::builder().region(self.region.clone()).imds_client(metadata.build());
        if let Some(profile) = &self.profile {
            chain = chain.profile_name(profile);
        }
        chain.configure(config).build().await.provide_credentials().await
    }
}

/// A provider of credentials, and the interceptor that tells it which of them were refused.
#[derive(Debug, Clone)]
pub(super) struct Renewing(Arc<State>);

#[derive(Debug)]
struct State {
    chain: Chain,
    /// Where the chain is asked, whoever needs its answer: its connections live on there.
    runtime: Handle,
    /// Locked while they are renewed: whoever needs them meanwhile waits for the new ones.
    held: tokio::sync::Mutex<Option<Credentials>>,
    /// The session that the service called expired.
    refused: Mutex<Option<Session>>,
}

impl Renewing {
    /// Is made in the runtime that the chain is to be asked in.
    pub(super) fn new(chain: Chain) -> Self {
        let (runtime, held, refused) = (Handle::current(), tokio::sync::Mutex::default(), Mutex::default());
        Self(Arc::new(State { chain, runtime, held, refused }))
    }

    /// Returns whether there are no credentials at all. Any other fault is left to the first request.
    pub(super) async fn finds_nothing(&self) -> bool {
        matches!(self.provide().await, Err(CredentialsError::CredentialsNotLoaded(_)))
    }

    async fn provide(&self) -> Result {
        let mut held = self.0.held.lock().await;
        let refused = self.take_refused();
        let Some(current) = held.as_ref() else { return Ok(held.insert(self.ask().await?).clone()) };
        let is_refused = refused.is_some_and(|session| session == session_of(current));
        if !is_refused && !expires_soon(current) {
            return Ok(current.clone());
        }
        tracing::debug!(is_refused, "renewing credentials");
        let fresh = match self.ask().await {
            Ok(fresh) => fresh,
            // They are good for some seconds yet.
            Err(error) if !is_refused && !has_expired(current) => {
                tracing::warn!(%error, "credentials cannot be renewed");
                return Ok(current.clone());
            }
            Err(error) => return Err(error),
        };
        if is_refused && session_of(&fresh) == session_of(current) {
            return Err(CredentialsError::provider_error(
                "ExpiredToken: the credentials have expired, and no newer ones were found",
            ));
        }
        Ok(held.insert(fresh).clone())
    }

    async fn ask(&self) -> Result {
        let chain = self.0.chain.clone();
        let asked = self.0.runtime.spawn(async move { chain.ask().await }).await;
        asked.unwrap_or_else(|error| Err(CredentialsError::provider_error(error)))
    }

    fn take_refused(&self) -> Option<Session> {
        self.0.refused.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn refuse(&self, session: Session) {
        *self.0.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
    }
}

impl ProvideCredentials for Renewing {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.provide())
    }
}

fn expires_soon(credentials: &Credentials) -> bool {
    credentials.expiry().is_some_and(|end| end <= clock::now() + RENEW_BEFORE)
}

fn has_expired(credentials: &Credentials) -> bool {
    credentials.expiry().is_some_and(|end| end <= clock::now())
}

/// What tells one issue of credentials from the next: the session's token, else the key's name.
fn session_of(credentials: &Credentials) -> Session {
    Session(credentials.session_token().unwrap_or(credentials.access_key_id()).to_owned())
}

/// The session that a request was made in. Its Debug prints nothing: it is a secret.
#[derive(Clone, PartialEq, Eq)]
struct Session(String);

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session")
    }
}

impl Storable for Session {
    type Storer = StoreReplace<Self>;
}

impl Intercept for Renewing {
    fn name(&self) -> &'static str {
        "lfs-delta credentials"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let headers = context.request().headers();
        let key = headers.get("authorization").and_then(key_in);
        if let Some(session) = headers.get("x-amz-security-token").or(key) {
            let session = Session(session.to_owned());
            config.interceptor_state().store_put(session);
        }
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let expired = context.response().and_then(retry::code_of).is_some_and(retry::is_expired);
        if let Some(session) = config.load::<Session>().filter(|_| expired) {
            self.refuse(session.clone());
        }
        Ok(())
    }
}

/// Returns the key's name in `AWS4-HMAC-SHA256 Credential=NAME/20260101/…`.
fn key_in(authorization: &str) -> Option<&str> {
    authorization.split_once("Credential=")?.1.split('/').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_key_stands_in_the_signature() {
        let header =
            "AWS4-HMAC-SHA256 Credential=AKID/20260101/eu-west-1/s3/aws4_request, SignedHeaders=host";
        assert_eq!(key_in(header), Some("AKID"));
        assert_eq!(key_in("Basic abc"), None);
    }

    #[test]
    fn a_session_is_a_secret() {
        assert_eq!(format!("{:?}", Session("token".into())), "Session");
    }
}
