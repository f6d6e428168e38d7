//! Who a node is: a key pair, a certificate of the cluster CA that names cluster and node, and the CA.
//!
//! The name in the certificate is `n<id>.<cluster>.tidegate`: both sides of a connection check it.

use std::fmt;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tidegate_model::NodeId;
use tidegate_state::ClusterId;
use x509_parser::extensions::GeneralName;

use crate::certificate::Validity;
use crate::gathering::Secret;

/// The name every member's certificate carries besides its own: what a joiner, who knows no ids, asks for.
pub(crate) const ANY_MEMBER: &str = "member.tidegate";

#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    /// DER of the CA's certificate.
    pub(crate) ca: Vec<u8>,
    /// DER of the node's certificate.
    pub(crate) certificate: Vec<u8>,
    /// PKCS#8 DER.
    pub(crate) key: Vec<u8>,
}

/// A new CA: its certificate and its private key, both DER.
pub(crate) fn new_ca(cluster: ClusterId) -> Result<(Vec<u8>, Vec<u8>), rcgen::Error> {
    let key = new_key()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("tidegate cluster {cluster}"));
    let certificate = params.self_signed(&key)?;
    Ok((certificate.der().to_vec(), key.serialize_der()))
}

fn gathering_ca(key: KeyPair) -> Result<(CertificateParams, KeyPair), rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "tidegate gathering");
    Ok((params, key))
}

/// The CA that everybody can make who knows the secret.
pub(crate) fn ca_of_secret(secret: &Secret) -> Result<rcgen::Certificate, rcgen::Error> {
    let (params, key) = gathering_ca(secret.ca_key()?)?;
    params.self_signed(&key)
}

/// A certificate of that CA for this name, and its key.
pub(crate) fn of_secret(
    secret: &Secret,
    name: &str,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), rcgen::Error> {
    let (params, ca_key) = gathering_ca(secret.ca_key()?)?;
    let key = new_key()?;
    let mut leaf = CertificateParams::new(vec![name.to_owned()])?;
    leaf.distinguished_name = DistinguishedName::new();
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = leaf.signed_by(&key, &Issuer::new(params, ca_key))?;
    Ok((vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))))
}

pub(crate) fn new_key() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
}

pub(crate) fn read_key(der: &[u8]) -> Result<KeyPair, rcgen::Error> {
    KeyPair::try_from(der)
}

/// What a joiner sends, so that its private key never travels.
pub(crate) fn signing_request(key: &KeyPair) -> Result<Vec<u8>, rcgen::Error> {
    Ok(CertificateParams::new(Vec::new())?.serialize_request(key)?.der().to_vec())
}

/// Fingerprint of the public key in a signing request whose signature holds.
pub(crate) fn requested_key(request: &[u8]) -> Result<[u8; 32], rcgen::Error> {
    let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))?;
    Ok(fingerprint(rcgen::PublicKeyData::der_bytes(&request.public_key)))
}

/// Fingerprint of the public key in a certificate.
pub(crate) fn shown_key(certificate: &[u8]) -> Option<[u8; 32]> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(fingerprint(&certificate.public_key().subject_public_key.data))
}

pub(crate) fn public_key(key: &KeyPair) -> [u8; 32] {
    fingerprint(rcgen::PublicKeyData::der_bytes(key))
}

pub(crate) fn fingerprint(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

/// The certificate for a node. Of the request only the public key counts: names are ours to give.
pub(crate) fn sign(
    request: &[u8],
    ca: &[u8],
    ca_key: &[u8],
    cluster: ClusterId,
    node: NodeId,
    validity: Validity,
) -> Result<Vec<u8>, rcgen::Error> {
    let mut request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))?;
    let mut params = CertificateParams::new(vec![name(cluster, node), ANY_MEMBER.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("tidegate node {node}"));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.is_ca = IsCa::ExplicitNoCa;
    let at = |seconds: u64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    (params.not_before, params.not_after) = (at(validity.from), at(validity.until));
    debug_assert!(params.subject_alt_names.iter().all(|san| matches!(san, SanType::DnsName(_))));
    request.params = params;
    let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(ca), read_key(ca_key)?)?;
    Ok(request.signed_by(&issuer)?.der().to_vec())
}

/// The name of a node in its certificate.
pub(crate) fn name(cluster: ClusterId, node: NodeId) -> String {
    format!("n{node}.{cluster}.tidegate")
}

/// The node that a certificate (checked against our CA before) was issued to, if it is of this cluster.
pub(crate) fn node_in(certificate: &[u8], cluster: ClusterId) -> Option<NodeId> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let suffix = format!(".{cluster}.tidegate");
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::DNSName(name) => name.strip_suffix(&suffix)?.strip_prefix('n')?.parse().ok().map(NodeId),
        _ => None,
    })
}

impl Identity {
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from(self.certificate.clone()), CertificateDer::from(self.ca.clone())]
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity(node {} of {})", self.node, self.cluster)
    }
}
