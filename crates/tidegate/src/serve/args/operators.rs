//! Which certificates of operators may what at the admin port.

use std::path::PathBuf;

use anyhow::bail;
use tidegate_admin::wire::Role;
use tidegate_tls::Caller;

/// Operators who are known by their certificates.
#[derive(Debug, Clone)]
pub(crate) struct Operators {
    pub(crate) ca: PathBuf,
    pub(crate) revoked: Option<PathBuf>,
    pub(crate) required: bool,
    pub(crate) roles: Vec<Rule>,
}

/// A name in certificates, and what it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    part: Part,
    name: String,
    pub(crate) role: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// All that the authority signed.
    Any,
    CommonName,
    Organization,
    Unit,
    Dns,
    Email,
    Uri,
}

impl Rule {
    pub(crate) fn is_for(&self, caller: &Caller) -> bool {
        let among = |names: &[String]| names.contains(&self.name);
        match self.part {
            Part::Any => true,
            Part::CommonName => caller.common_name.as_ref() == Some(&self.name),
            Part::Organization => among(&caller.organizations),
            Part::Unit => among(&caller.units),
            Part::Dns => caller.dns.iter().any(|name| name.eq_ignore_ascii_case(&self.name)),
            Part::Email => among(&caller.emails),
            Part::Uri => among(&caller.uris),
        }
    }
}

/// As it was told, by flag, variable or file.
pub(super) fn of(
    ca: Option<PathBuf>,
    revoked: Option<PathBuf>,
    required: bool,
    roles: &[String],
    has_tls: bool,
) -> anyhow::Result<Option<Operators>> {
    let Some(ca) = ca else {
        if revoked.is_some() || required || !roles.is_empty() {
            bail!("certificates of operators need --admin-client-ca: who signs them");
        }
        return Ok(None);
    };
    if !has_tls {
        bail!("--admin-client-ca needs TLS on the admin port: --admin-cert and --admin-key");
    }
    let roles = roles.iter().map(|text| rule(text)).collect::<anyhow::Result<_>>()?;
    Ok(Some(Operators { ca, revoked, required, roles }))
}

fn rule(text: &str) -> anyhow::Result<Rule> {
    let Some((name, role)) = text.rsplit_once('=').filter(|(name, _)| !name.is_empty()) else {
        bail!("--admin-client-role {text:?}: write it as NAME=ROLE, like ann=operator, ou:platform=admin or *=reader");
    };
    let role = match role {
        "reader" => Role::Reader,
        "operator" => Role::Operator,
        "admin" => Role::Admin,
        other => bail!("--admin-client-role {text:?}: {other:?} is no role; it is reader, operator or admin"),
    };
    let parts = [
        ("cn:", Part::CommonName),
        ("o:", Part::Organization),
        ("ou:", Part::Unit),
        ("dns:", Part::Dns),
        ("email:", Part::Email),
        ("uri:", Part::Uri),
    ];
    let found = parts.iter().find_map(|(prefix, part)| Some((*part, name.strip_prefix(prefix)?)));
    let (part, name) = if name == "*" { (Part::Any, "") } else { found.unwrap_or((Part::CommonName, name)) };
    Ok(Rule { part, name: name.to_owned(), role })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ann() -> Caller {
        Caller {
            common_name: Some("ann".into()),
            organizations: vec!["acme".into()],
            units: vec!["platform".into()],
            dns: vec!["ops.example.com".into()],
            emails: vec!["ann@example.com".into()],
            uris: vec!["spiffe://example.com/ops".into()],
            not_after: 9,
        }
    }

    #[test]
    fn a_role_is_for_whoever_has_the_name_in_that_place() {
        let fits = |text: &str| rule(text).unwrap().is_for(&ann());
        for text in [
            "ann=admin",
            "cn:ann=reader",
            "o:acme=reader",
            "ou:platform=operator",
            "dns:OPS.example.com=reader",
            "email:ann@example.com=reader",
            "uri:spiffe://example.com/ops=admin",
            "*=reader",
        ] {
            assert!(fits(text), "{text}");
        }
        for text in ["bob=admin", "ANN=admin", "platform=admin", "ou:acme=admin", "o:platform=admin", "uri:ann=admin"] {
            assert!(!fits(text), "{text}");
        }
        assert_eq!(rule("uri:a=b=admin").unwrap(), Rule { part: Part::Uri, name: "a=b".into(), role: Role::Admin });
    }

    #[test]
    fn what_is_told_wrongly_is_told_back() {
        for (text, said) in
            [("ann", "NAME=ROLE"), ("=admin", "NAME=ROLE"), ("ann=root", "no role"), ("ann=", "no role")]
        {
            assert!(rule(text).unwrap_err().to_string().contains(said), "{text}");
        }
        let path = || Some(PathBuf::from("x"));
        assert!(of(None, path(), false, &[], true).is_err());
        assert!(of(None, None, true, &[], true).is_err());
        assert!(of(path(), None, false, &[], false).is_err());
        assert!(of(None, None, false, &[], false).unwrap().is_none());
        assert!(of(path(), path(), true, &["ann=admin".into()], true).unwrap().is_some());
    }
}
