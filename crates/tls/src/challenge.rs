//! Challenges of certificate authorities that are answered in the handshake (RFC 8737, tls-alpn-01): whoever asks for the
//! protocol `acme-tls/1` alone gets a certificate made for the challenge, or an alert, and nothing is said on that connection.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::ServerConfig;
use rustls::server::ClientHello;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::StartHandshake;

use crate::provider;

const PROTOCOL: &[u8] = b"acme-tls/1";

/// A fatal alert in the clear (RFC 7301 § 3.2): nothing is known of such a challenge.
const NO_APPLICATION_PROTOCOL: [u8; 7] = [21, 3, 3, 0, 2, 2, 120];

/// What a host is to prove: SHA-256 of the key authorization.
pub type Digest = [u8; 32];

#[derive(Debug, Default)]
pub(crate) struct Challenges(ArcSwap<HashMap<String, Answer>>);

#[derive(Debug, Clone)]
struct Answer {
    digest: Digest,
    config: Arc<ServerConfig>,
}

/// Is this no client, but an authority that looks? It offers nothing else (RFC 8737 § 3).
pub(crate) fn is_asked(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut offered| offered.next() == Some(PROTOCOL) && offered.next().is_none())
}

impl Challenges {
    /// These, and no others. Hosts in lower case.
    pub(crate) fn replace(&self, wanted: impl IntoIterator<Item = (String, Digest)>) -> Result<(), String> {
        let known = self.0.load();
        let mut answers = HashMap::new();
        for (host, digest) in wanted {
            let answer = match known.get(&host) {
                Some(answer) if answer.digest == digest => answer.clone(),
                _ => Answer { digest, config: config(&host, digest).map_err(|why| format!("{host}: {why}"))? },
            };
            answers.insert(host, answer);
        }
        self.0.store(Arc::new(answers));
        Ok(())
    }

    /// Shows the challenge's certificate; then there is nothing more to say.
    pub(crate) async fn answer<S>(&self, mut started: StartHandshake<S>) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = started.client_hello().server_name().map(str::to_ascii_lowercase);
        let config = name.and_then(|name| self.0.load().get(&name).map(|answer| answer.config.clone()));
        let Some(config) = config else {
            started.io.write_all(&NO_APPLICATION_PROTOCOL).await?;
            return started.io.shutdown().await;
        };
        started.into_stream(config).await?.shutdown().await
    }
}

/// A self-signed certificate for the host that carries the digest, and a key that nobody needs afterwards.
fn config(host: &str, digest: Digest) -> Result<Arc<ServerConfig>, String> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|why| why.to_string())?;
    let mut params = CertificateParams::new(vec![host.to_owned()]).map_err(|why| why.to_string())?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(&digest)];
    let certificate = params.self_signed(&key).map_err(|why| why.to_string())?;
    let signs = provider().key_provider.load_private_key(key.into()).map_err(|why| why.to_string())?;
    // Not checked against each other: whoever checks refuses a critical extension that it does not know.
    let shown = CertifiedKey::new(vec![certificate.der().clone()], signs);
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|why| why.to_string())?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}
