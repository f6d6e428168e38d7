//! `tidegate cert …`

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use http::Method;
use tidegate_admin::wire::{CertificateChanged, CertificateList, CertificateState, ImportCertificate};

use super::Output;
use super::client::{Ask, Client};
use super::exit::{Error, Exit};
use super::print::{self, either};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Every certificate: kept ones, those an authority is asked for, and the document's own
    Ls,
    /// Keep a certificate and its key, sealed, and serve it on every node; replaces the one of this name
    Import(Import),
    /// Keep a certificate no longer; refused while the document names it
    Rm { name: String },
    /// Ask its authority for a certificate now (`acme.certificates`)
    Renew { name: String },
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    pub(crate) name: String,
    /// The chain in PEM, the server's certificate first
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: PathBuf,
    /// Its private key in PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
}

pub(super) async fn run(client: &Client, verb: Verb, output: Output) -> Result<Exit, Error> {
    let (ask, done) = match verb {
        Verb::Ls => {
            let all: CertificateList = client.get("/v1/certificates").await?;
            either(output, &all, list);
            return Ok(Exit::Ok);
        }
        Verb::Import(Import { name, cert, key }) => {
            let body = ImportCertificate { chain: read(&cert)?, key: read(&key)? };
            (Ask::at(Method::PUT, "/v1/certificates/", &name, "").json(&body), "is kept and served")
        }
        Verb::Rm { name } => (Ask::at(Method::DELETE, "/v1/certificates/", &name, ""), "is gone"),
        Verb::Renew { name } => (Ask::at(Method::POST, "/v1/certificates/", &name, "/renew"), "is asked for"),
    };
    let changed: CertificateChanged = client.send(ask).await?;
    either(output, &changed, |changed| {
        let hosts = changed.certificate.as_ref().map(|it| format!(" ({})", it.hosts.join(", "))).unwrap_or_default();
        print::line(&print::clean(&format!("certificate {}{hosts} {done}", changed.name)));
        if !changed.complete {
            print::applied(&changed.nodes);
        }
    });
    Ok(if changed.complete { Exit::Ok } else { Exit::Incomplete })
}

fn read(path: &Path) -> Result<String, Error> {
    let wrong = |why: String| Error::Usage(format!("{}: {why}", path.display()));
    let bytes = std::fs::read(path).map_err(|why| wrong(why.to_string()))?;
    // What it holds is not repeated: it may be the key.
    String::from_utf8(bytes).map_err(|_| wrong("no PEM text (is it DER? `openssl x509 -inform der`)".to_owned()))
}

fn list(all: &CertificateList) {
    let row = |it: &CertificateState| {
        let ends = it.not_after.as_deref().map(|end| match it.days_left {
            Some(days) => format!("{end} ({days} d)"),
            None => end.to_owned(),
        });
        let state = match (&it.error, it.ordering) {
            (Some(_), _) => format!("{}, {} failed", it.state, it.failures),
            (None, true) => format!("{}, ordering", it.state),
            (None, false) => it.state.clone(),
        };
        vec![
            it.name.clone(),
            it.hosts.join(" "),
            print::or_dash(it.issuer.as_ref()),
            print::or_dash(it.not_before.as_ref()),
            print::or_dash(ends),
            it.source.clone(),
            it.used_by.join(" "),
            state,
            print::or_dash(it.next_at.as_ref()),
        ]
    };
    let header = ["name", "hosts", "issuer", "from", "not after", "source", "used by", "state", "next"];
    print::table(&header, all.certificates.iter().map(row).collect());
    for it in &all.certificates {
        if let Some(error) = &it.error {
            print::line(&print::clean(&format!("{}: {error}", it.name)));
        }
    }
}
