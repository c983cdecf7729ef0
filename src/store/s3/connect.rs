//! Builds the client of a service: how it is reached, as whom, and where it is.

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};

use super::credentials::{Chain, Renewing};
use super::options::Certificates;
use super::watch::Watched;
use super::{Error, Result, S3Store, Service, retry};

impl S3Store {
    pub(super) fn connect(&self) -> Result<Service> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(8)
            .enable_all()
            .build()
            .map_err(|error| Error::Settings { reason: format!("cannot start threads: {error}") })?;
        let client = runtime.block_on(self.build_client())?;
        Ok(Service { client, runtime })
    }

    async fn build_client(&self) -> Result<Client> {
        let http = http_client(self.options.access.certificates.as_ref())?;
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(self.options.connect_timeout)
            .read_timeout(self.options.read_timeout)
            .build();
        let retries = RetryConfig::standard()
            .with_max_attempts(self.options.attempts)
            .with_initial_backoff(self.options.backoff);
        let stalls =
            StalledStreamProtectionConfig::enabled().grace_period(self.options.stall_timeout).build();
        let profile = self.options.access.profile.clone();
        let chain = Chain { http, timeouts, region: self.region().await?, profile };
        let shared = chain.loader().retry_config(retries).stalled_stream_protection(stalls).load().await;
        let renewing = Renewing::new(chain);
        let mut config = aws_sdk_s3::config::Builder::from(&shared)
            .credentials_provider(renewing.clone())
            .identity_cache(IdentityCache::no_cache())
            .interceptor(renewing)
            .interceptor(retry::CountTries)
            .retry_classifier(retry::AlsoRetry);
        if let Some(endpoint) = &self.location.endpoint {
            // Checksum trailers are refused, or worse stored as content, by services other than AWS.
            config = config
                .endpoint_url(endpoint.to_string())
                .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
                .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        }
        let path_style = self.location.path_style.unwrap_or(self.location.endpoint.is_some());
        Ok(Client::from_conf(config.force_path_style(path_style).build()))
    }

    /// Finds the region without asking the network: that question costs seconds where nobody answers.
    async fn region(&self) -> Result<Region> {
        let custom = self.location.endpoint.as_ref().map(|_| Region::from_static("us-east-1"));
        let mut profile = ProfileFileRegionProvider::builder();
        if let Some(name) = &self.options.access.profile {
            profile = profile.profile_name(name);
        }
        let chain = RegionProviderChain::first_try(self.location.region.clone().map(Region::new))
            .or_else(EnvironmentVariableRegionProvider::new())
            .or_else(profile.build())
            .or_else(custom);
        chain.region().await.ok_or_else(|| Error::Settings {
            reason: "no region is set: neither in the store URL (?region=…), nor in AWS_REGION, nor in the AWS profile"
                .into(),
        })
    }
}

/// Builds the client of HTTP: TLS 1.2 or later by the system's certificates and those that are given, through the
/// proxy that the environment names, if any.
fn http_client(certificates: Option<&Certificates>) -> Result<SharedHttpClient> {
    let mut trust = TrustStore::default();
    if let Some(certificates) = certificates {
        trust = trust.with_pem_certificate(certificates.0.clone());
    }
    let context = TlsContext::builder().with_trust_store(trust).build();
    let context =
        context.map_err(|error| Error::Settings { reason: format!("cannot set up TLS: {error}") })?;
    let client = Builder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = Connector::builder()
            .proxy_config(ProxyConfig::from_env())
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .tls_context(context.clone());
        builder.set_connector_settings(settings.cloned());
        if let Some(components) = components {
            builder.set_sleep_impl(components.sleep_impl());
        }
        builder.build()
    });
    Ok(SharedHttpClient::new(Watched(client)))
}
