//! A chain and its key, looked at before anybody serves them: what is wrong with them, or what they say of themselves.

use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::public_key::PublicKey;

use crate::pem::{self, Error};
use crate::provider;

/// What a chain's first certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Host names it is for, in lower case, as they stand in it; addresses are left out.
    pub hosts: Vec<String>,
    /// Who signed it: its common name, or all of its name.
    pub issuer: String,
    pub serial: String,
    /// Seconds since 1970.
    pub not_before: u64,
    pub not_after: u64,
    /// `ecdsa-256`, `rsa-2048`, …
    pub key: String,
}

/// What a chain says, its key left aside.
///
/// # Errors
/// It cannot be read; `of` being what people call it.
pub fn facts(of: &str, chain_pem: &[u8]) -> Result<Facts, Error> {
    let chain = pem::certificates(of, "chain", chain_pem)?;
    let parsed = parse(of, chain_pem, &chain, 0)?;
    Ok(tell(&parsed))
}

/// Can this chain and this key be served?
///
/// # Errors
/// Why not: a part that cannot be read, certificates out of order, a key of another certificate, no host named.
pub fn examine(of: &str, chain_pem: &[u8], key_pem: &[u8]) -> Result<Facts, Error> {
    let chain = pem::certificates(of, "chain", chain_pem)?;
    let key = pem::key(of, key_pem)?;
    for at in 1..chain.len() {
        let (one, next) = (parse(of, chain_pem, &chain, at - 1)?, parse(of, chain_pem, &chain, at)?);
        if one.issuer().as_raw() != next.subject().as_raw() {
            let why =
                format!("it did not sign certificate {at}: the server's comes first, then who signed it, and so on");
            return Err(Error { of: of.into(), place: pem::place("chain", chain_pem, at), why });
        }
    }
    let leaf = parse(of, chain_pem, &chain, 0)?;
    let facts = tell(&leaf);
    if leaf.is_ca() && chain.len() > 1 {
        let why = "it is an authority's, not a server's: the server's comes first".into();
        return Err(Error { of: of.into(), place: pem::place("chain", chain_pem, 0), why });
    }
    if facts.hosts.is_empty() {
        let why = "it names no host (subjectAltName): no client could ask for it".into();
        return Err(Error { of: of.into(), place: pem::place("chain", chain_pem, 0), why });
    }
    CertifiedKey::from_der(chain.clone(), key, &provider()).map_err(|why| pem::unfit(of.into(), why))?;
    Ok(facts)
}

fn parse<'a>(
    of: &str,
    pem_text: &[u8],
    chain: &'a [rustls::pki_types::CertificateDer<'static>],
    at: usize,
) -> Result<X509Certificate<'a>, Error> {
    match x509_parser::parse_x509_certificate(&chain[at]) {
        Ok((_, parsed)) => Ok(parsed),
        Err(_) => {
            let why = "it is no X.509 certificate".into();
            Err(Error { of: of.into(), place: pem::place("chain", pem_text, at), why })
        }
    }
}

fn tell(certificate: &X509Certificate<'_>) -> Facts {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.into_iter().flat_map(|names| names.value.general_names.iter());
    let hosts = names.filter_map(|name| match name {
        GeneralName::DNSName(host) if !host.is_empty() => Some(host.to_ascii_lowercase()),
        _ => None,
    });
    let issuer = certificate.issuer();
    let common = issuer.iter_common_name().next().and_then(|name| name.as_str().ok()).map(str::to_owned);
    let seconds = |at: i64| u64::try_from(at).unwrap_or_default();
    let validity = certificate.validity();
    Facts {
        hosts: hosts.collect(),
        issuer: common.unwrap_or_else(|| issuer.to_string()),
        serial: certificate.raw_serial_as_string(),
        not_before: seconds(validity.not_before.timestamp()),
        not_after: seconds(validity.not_after.timestamp()),
        key: match certificate.public_key().parsed() {
            Ok(PublicKey::RSA(key)) => format!("rsa-{}", key.key_size()),
            Ok(PublicKey::EC(point)) => format!("ecdsa-{}", point.key_size()),
            _ => "other".into(),
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn made(hosts: &[&str]) -> (String, String) {
        let names: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, hosts.first().copied().unwrap_or("nobody"));
        let key = rcgen::KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn a_good_pair_says_what_it_is_for() {
        let (chain, key) = made(&["A.test", "*.b.test"]);
        let facts = examine("x", chain.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(facts.hosts, ["a.test", "*.b.test"]);
        assert_eq!(facts.key, "ecdsa-256");
        assert_eq!(facts, super::facts("x", chain.as_bytes()).unwrap());
    }

    #[test]
    fn what_cannot_be_served_is_said_in_words() {
        let ((chain, key), (other, _)) = (made(&["a.test"]), made(&["b.test"]));
        let (nameless, its_key) = made(&[]);
        let said = |chain: &str, key: &str| examine("x", chain.as_bytes(), key.as_bytes()).unwrap_err().to_string();
        assert!(said(&other, &key).contains("the key does not belong to the chain's first certificate"));
        assert!(said("nothing", &key).contains("no CERTIFICATE section"));
        assert!(said(&chain, "nothing").contains("no PRIVATE KEY section"));
        assert!(said(&format!("{chain}{other}"), &key).contains("did not sign certificate 1"));
        assert!(said(&nameless, &its_key).contains("names no host"));
        let text = said(&chain, "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n");
        assert!(!text.contains("c2VjcmV0") && !text.contains("secret"), "{text}");
    }
}
