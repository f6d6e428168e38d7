//! What a caller's certificate says of who calls. Read after it was verified.

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

/// The names in a certificate, each as it stands there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    pub common_name: Option<String>,
    pub organizations: Vec<String>,
    pub units: Vec<String>,
    pub dns: Vec<String>,
    pub emails: Vec<String>,
    pub uris: Vec<String>,
    /// Seconds since 1970.
    pub not_after: u64,
}

impl Caller {
    /// `None`: it cannot be read, or is no text.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let subject = parsed.subject();
        let text = |name: &x509_parser::x509::AttributeTypeAndValue<'_>| name.as_str().ok().map(str::to_owned);
        let mut caller = Self {
            common_name: subject.iter_common_name().next().and_then(text),
            organizations: subject.iter_organization().filter_map(text).collect(),
            units: subject.iter_organizational_unit().filter_map(text).collect(),
            not_after: u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or_default(),
            ..Self::default()
        };
        let names = parsed.subject_alternative_name().ok().flatten();
        for name in names.into_iter().flat_map(|names| names.value.general_names.iter()) {
            match name {
                GeneralName::DNSName(name) => caller.dns.push((*name).to_owned()),
                GeneralName::RFC822Name(name) => caller.emails.push((*name).to_owned()),
                GeneralName::URI(name) => caller.uris.push((*name).to_owned()),
                _ => {}
            }
        }
        Some(caller)
    }

    /// What people call it: its common name, or else the first of its other names.
    #[must_use]
    pub fn name(&self) -> &str {
        let common = self.common_name.as_ref().filter(|name| !name.is_empty());
        let first = || [&self.uris, &self.emails, &self.dns].into_iter().flatten().next();
        common.or_else(first).map_or("nameless", String::as_str)
    }
}
