//! What documents refer to outside themselves: environment variables and files of this machine, secrets that the cluster
//! keeps, and what this program was built with.

use tidegate_admin::backend::{Compiled, Instead};
use tidegate_admin::wire::{Problem, Severity};
use tidegate_cluster::Cluster;
use tidegate_config::{Document, Inputs, Need};
use tidegate_model::{Feature, Revision};
use tidegate_state::Secrets;
use tidegate_tls::Certificates;

/// A secret or certificate larger than this is a mistake.
const MOST_BYTES: u64 = 1 << 20;

/// As a document that is about to be published: with what only those find out who use certificates. `instead`: with this value
/// of a secret.
pub(super) fn compile(
    cluster: &Cluster,
    text: &str,
    revision: Revision,
    instead: Instead<'_>,
) -> Result<Compiled, Vec<Problem>> {
    let inputs = |document: &Document| {
        let inputs = gather(cluster, document);
        match instead {
            Some((name, value)) => inputs.with(Need::Sealed(name.to_owned()), value),
            None => inputs,
        }
    };
    let compiled = tidegate_admin::compile(text, revision, inputs)?;
    // What the cluster keeps was looked at when it was put there.
    let files = compiled.snapshot.certificates.iter().filter(|it| it.stored.is_none());
    let shown = Certificates::check(files).err().unwrap_or_default();
    let mut problems: Vec<Problem> = shown.iter().map(|why| problem("certificates".to_owned(), why)).collect();
    for upstream in &compiled.snapshot.upstreams {
        let why = tidegate_tls::client(&upstream.tls, &[]).err();
        problems.extend(why.map(|why| problem(format!("upstreams.{}.tls", upstream.id), &why)));
    }
    if problems.is_empty() { Ok(compiled) } else { Err(problems) }
}

fn problem(path: String, why: &tidegate_tls::Error) -> Problem {
    let (file, line, column) = (None, None, None);
    Problem { severity: Severity::Error, path, file, line, column, reason: why.to_string(), hint: None }
}

/// Reads everything `document` needs.
pub(super) fn gather(cluster: &Cluster, document: &Document) -> Inputs {
    let inputs = Inputs::gather(document, |need| fetch(cluster, need));
    let built_with = [(Feature::Otlp, cfg!(feature = "otlp")), (Feature::Http3, cfg!(feature = "h3"))];
    let lacks = built_with.into_iter().filter(|(_, has)| !has);
    lacks.fold(inputs, |inputs, (feature, _)| inputs.without(feature))
}

fn fetch(cluster: &Cluster, need: &Need) -> Result<Vec<u8>, String> {
    match need {
        Need::Env(name) => match std::env::var_os(name) {
            Some(value) => Ok(value.into_encoded_bytes()),
            None => Err("it is not set for this node".into()),
        },
        Need::File(path) => {
            let size = std::fs::metadata(path).map_err(|why| why.to_string())?.len();
            if size > MOST_BYTES {
                return Err(format!("it has {size} bytes, more than {MOST_BYTES}"));
            }
            std::fs::read(path).map_err(|why| why.to_string())
        }
        Need::Sealed(name) => {
            let sealed = cluster.read(|state| state.later.secrets.by_name(name).map(|secret| secret.sealed.clone()));
            cluster.unseal(&Secrets::sealing(name), &sealed.ok_or("the cluster keeps none of this name")?)
        }
    }
}
