//! Builds the client of a service: how it is reached, as whom, and where it is.

use aws_config::ConfigLoader;
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
use super::fault::Fault;
use super::options::{Anonymous, Certificates};
use super::watch::Watched;
use super::{AtomicBool, Error, OnceLock, Result, Runtime, S3Store, Service, Verb, Way, retry};
use crate::model::S3Location;

impl S3Store {
    pub(super) fn connect(&self) -> Result<Service> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(8)
            .enable_all()
            .build()
            .map_err(|error| Error::Settings { reason: format!("cannot start threads: {error}") })?;
        let (config, anonymous) = runtime.block_on(async {
            tokio::select! {
                built = self.build_config() => built,
                () = self.cancel.raised() => Err(Error::Cancelled),
            }
        })?;
        let single = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::Settings { reason: format!("cannot watch connections: {error}") })?;
        // A connection belongs to the runtime that it was made in: clients of two have none in common.
        let http = http_client(self.options.access.certificates.as_ref(), ProxyConfig::from_env())?;
        Ok(Service {
            serial: self.way(config.clone().http_client(http), single),
            parallel: self.way(config, runtime),
            uses_other: AtomicBool::new(false),
            anonymous,
        })
    }

    fn way(&self, config: aws_sdk_s3::config::Builder, runtime: Runtime) -> Way {
        Way {
            clients: OnceLock::new(),
            config,
            path_style: wants_path_style(&self.location),
            // What the user says, and what AWS wants, is no guess.
            is_guess: self.location.path_style.is_none() && self.location.endpoint.is_some(),
            runtime,
        }
    }

    /// Prepares the client, and says whether it asks as nobody.
    async fn build_config(&self) -> Result<(aws_sdk_s3::config::Builder, bool)> {
        let certificates = self.options.access.certificates.as_ref();
        let http = http_client(certificates, ProxyConfig::from_env())?;
        let direct = http_client(certificates, ProxyConfig::disabled())?;
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(self.options.connect_timeout)
            .read_timeout(self.options.read_timeout)
            .build();
        let profile = self.options.access.profile.clone();
        let mut chain = Chain { http, direct, timeouts, region: Region::from_static(FIRST_REGION), profile };
        chain.region = match self.region_at_hand().await {
            Some(region) => region,
            None => self.ask_region(&chain).await?,
        };
        // Those of the chain come by `Renewing` alone.
        let shared = self.patient(chain.loader().no_credentials()).load().await;
        let mut config = aws_sdk_s3::config::Builder::from(&shared)
            .interceptor(retry::CountTries)
            .interceptor(self.flow.clone())
            .retry_classifier(retry::AlsoRetry);
        let renewing = Renewing::new(chain);
        let anonymous = match self.options.access.anonymous {
            Anonymous::Never => false,
            Anonymous::WithoutAny => renewing.finds_nothing().await,
            Anonymous::Always => true,
        };
        if anonymous {
            config = config.allow_no_auth();
        } else {
            config = config
                .credentials_provider(renewing.clone())
                .identity_cache(IdentityCache::no_cache())
                .interceptor(renewing);
        }
        if let Some(endpoint) = &self.location.endpoint {
            // Checksum trailers are refused, or worse stored as content, by services other than AWS.
            config = config
                .endpoint_url(endpoint.to_string())
                .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
                .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        }
        Ok((config, anonymous))
    }

    fn patient(&self, loader: ConfigLoader) -> ConfigLoader {
        let retries = RetryConfig::standard()
            .with_max_attempts(self.options.attempts)
            .with_initial_backoff(self.options.backoff);
        let stalls =
            StalledStreamProtectionConfig::enabled().grace_period(self.options.stall_timeout).build();
        loader.retry_config(retries).stalled_stream_protection(stalls)
    }

    /// Finds the region that is set, without asking the network: the metadata service of cloud machines costs
    /// seconds where there is none. Services other than AWS take any.
    async fn region_at_hand(&self) -> Option<Region> {
        let custom = self.location.endpoint.as_ref().map(|_| Region::from_static(FIRST_REGION));
        let mut profile = ProfileFileRegionProvider::builder();
        if let Some(name) = &self.options.access.profile {
            profile = profile.profile_name(name);
        }
        let chain = RegionProviderChain::first_try(self.location.region.clone().map(Region::new))
            .or_else(EnvironmentVariableRegionProvider::new())
            .or_else(profile.build())
            .or_else(custom);
        chain.region().await
    }

    /// Asks where the bucket is, as nobody: the answer names the region even where it is a refusal.
    async fn ask_region(&self, chain: &Chain) -> Result<Region> {
        let shared = self.patient(chain.loader().no_credentials()).load().await;
        let config = aws_sdk_s3::config::Builder::from(&shared).allow_no_auth().build();
        let asked = Client::from_conf(config).head_bucket().bucket(&self.location.bucket).send().await;
        let found = match asked {
            Ok(answer) => answer.bucket_region().map(str::to_owned),
            Err(error) => match error.raw_response() {
                Some(answer) => answer.headers().get("x-amz-bucket-region").map(str::to_owned),
                None => return Err(Fault::from(error).into_error(Verb::List, &self.location.bucket, None)),
            },
        };
        let found = found.filter(|name| name.len() <= 64).ok_or_else(|| Error::Settings {
            reason:
                "no region is set, neither in the store URL (?region=…) nor in AWS_REGION nor in the AWS \
                     profile, and the service does not say where the bucket is"
                    .into(),
        })?;
        tracing::info!(region = found, "found the region of the bucket");
        Ok(Region::new(found))
    }
}

/// The region that is asked where another is; services other than AWS take it as their own.
const FIRST_REGION: &str = "us-east-1";

/// Services that want the bucket in the host name. All others are asked with it in the path first.
const HOST_STYLE_SERVICES: &[&str] = &["aliyuncs.com", "amazonaws.com", "amazonaws.com.cn", "myqcloud.com"];

/// Decides whether the bucket goes into the path of a URL, or else into its host name.
fn wants_path_style(location: &S3Location) -> bool {
    if let Some(wanted) = location.path_style {
        return wanted;
    }
    // The SDK knows by itself what AWS wants.
    let Some(endpoint) = &location.endpoint else { return false };
    let below = |domain: &&str| endpoint.host.strip_suffix(*domain).is_some_and(|rest| rest.ends_with('.'));
    // Certificates for `*.host` hold for names without dots only, and host names know no capitals or underscores.
    let fits_host = location.bucket.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    !(fits_host && HOST_STYLE_SERVICES.iter().any(below))
}

/// Builds the client of HTTP: TLS 1.2 or later by the system's certificates and those that are given.
fn http_client(certificates: Option<&Certificates>, proxy: ProxyConfig) -> Result<SharedHttpClient> {
    let mut trust = TrustStore::default();
    if let Some(certificates) = certificates {
        trust = trust.with_pem_certificate(certificates.0.clone());
    }
    let context = TlsContext::builder().with_trust_store(trust).build();
    let context =
        context.map_err(|error| Error::Settings { reason: format!("cannot set up TLS: {error}") })?;
    let client = Builder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = Connector::builder()
            .proxy_config(proxy.clone())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Location;

    #[test]
    fn the_bucket_goes_where_the_service_wants_it() {
        for (url, path) in [
            ("s3://bucket", false),
            ("s3://bucket?path-style=true", true),
            ("s3://bucket?endpoint=http://127.0.0.1:9000", true),
            ("s3://bucket?endpoint=https://minio.example.com", true),
            ("s3://bucket?endpoint=https://minio.example.com&path-style=false", false),
            ("s3://bucket?endpoint=https://oss-eu-central-1.aliyuncs.com", false),
            ("s3://bucket?endpoint=https://s3.eu-west-1.amazonaws.com", false),
            ("s3://my.bucket?endpoint=https://s3.eu-west-1.amazonaws.com", true),
            ("s3://bucket?endpoint=https://evilamazonaws.com", true),
        ] {
            let Ok(Location::S3(location)) = Location::parse(url) else { panic!("{url}") };
            assert_eq!(wants_path_style(&location), path, "{url}");
        }
    }
}
