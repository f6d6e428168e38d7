//! `tidegate cluster backup | backup-key | restore | recover`: the first over the admin port, the others on this machine's
//! files, with no node at all.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::Args;
use http::Method;
use serde::Serialize;
use serde_json::json;
use tidegate_admin::wire::BackupRequest;
use tidegate_cluster::Error as ClusterError;
use tidegate_cluster::disaster::{self, BackupKey, Manifest, Recipient, Standing, Survivor, Wish};
use tidegate_config::Inputs;
use tidegate_model::{LimitId, Millis, Revision};
use tidegate_quota::ledger::reborn::{Budgets, Reckoned};

use super::Output;
use super::client::{Ask, Client};
use super::exit::{Error, Exit};
use super::print::{self, either};

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// Where to write it, as a whole or not at all [default: tidegate-CLUSTER-DATE.backup]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The public half of the backup key
    #[arg(long, value_name = "tgbp1-…", env = "TIDEGATE_BACKUP_KEY")]
    key: Option<String>,
    /// The backup key itself: of it only the public half leaves this machine
    #[arg(long, value_name = "FILE", env = "TIDEGATE_BACKUP_KEY_FILE")]
    key_file: Option<PathBuf>,
    /// Do not make one: say what is in this one, and check every byte of it; with --key-file also that it opens. Needs no node
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    inspect: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct NewKey {
    /// Where to write it; nothing is written over
    #[arg(long, value_name = "FILE", default_value = "tidegate-backup.key")]
    out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup
    file: PathBuf,
    /// An empty folder, or one that is not there: the data folder of the new cluster's first node
    #[arg(long, value_name = "DIR", env = "TIDEGATE_DATA", default_value = "tidegate-data")]
    data: PathBuf,
    /// The backup key
    #[arg(long, value_name = "FILE", env = "TIDEGATE_BACKUP_KEY_FILE")]
    key_file: PathBuf,
    /// What people call the node [default: the host's name]
    #[arg(long, value_name = "NAME", env = "TIDEGATE_NAME")]
    name: Option<String>,
    #[command(flatten)]
    budgets: Closing,
}

#[derive(Debug, Args)]
pub(crate) struct Recover {
    /// The data folder of a node that voted; its process does not run
    #[arg(long, value_name = "DIR", env = "TIDEGATE_DATA", default_value = "tidegate-data")]
    data: PathBuf,
    /// Do it. Without this, what it would do and what may be lost is said, and nothing changed
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    budgets: Closing,
}

#[derive(Debug, Clone, Copy, Args)]
struct Closing {
    /// Close budgets and long calendar windows until their period ends, instead of going on from what is known to be spent
    #[arg(long)]
    close_budgets: bool,
}

impl From<Closing> for Budgets {
    fn from(closing: Closing) -> Self {
        if closing.close_budgets { Self::Close } else { Self::GoOn }
    }
}

// ---- backup ----

/// `None`: it asks no node.
pub(super) fn of_a_file(verb: &Backup, output: Output) -> Option<Result<Exit, Error>> {
    verb.inspect.as_ref().map(|file| inspect(file, verb.key_file.as_deref(), output))
}

pub(super) async fn backup(client: &Client, verb: Backup, output: Output) -> Result<Exit, Error> {
    let key = match (&verb.key, &verb.key_file) {
        (Some(key), None) => Recipient::parse(key),
        (None, Some(file)) => read_key(file)?.recipient(),
        // One of them may be of the environment.
        (Some(key), Some(file)) => match (Recipient::parse(key), read_key(file)?.recipient()) {
            (Ok(key), Ok(other)) if key.to_string() != other.to_string() => {
                Err(format!("--key is {key}, and {} is the key of {other}: give one of them", file.display()))
            }
            (key, _) => key,
        },
        (None, None) => Err(
            "a backup is sealed with a key that you keep: make one with `tidegate cluster backup-key`, and name it \
                  with --key-file, or its public half with --key"
                .to_owned(),
        ),
    };
    let key = key.map_err(Error::Usage)?;
    let ask = Ask::new(Method::POST, "/v1/cluster/backup").json(&BackupRequest { key: key.to_string() });
    let file = client.bytes(ask.waiting(Duration::from_secs(300))).await?;
    // What came is whole, or is not called a backup.
    let manifest = disaster::inspect(&file, None).map_err(local)?;
    let out = verb.out.unwrap_or_else(|| PathBuf::from(format!("{}.backup", stem(&manifest))));
    write_whole(&out, &file).map_err(Error::Local)?;
    let told = Told { file: out.display().to_string(), bytes: file.len(), manifest: &manifest };
    either(output, &told, |_| {
        print::line(&format!("{}   {} bytes", out.display(), file.len()));
        print::line(&worded(&manifest));
    });
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Told<'a> {
    file: String,
    bytes: usize,
    #[serde(flatten)]
    manifest: &'a Manifest,
}

fn stem(manifest: &Manifest) -> String {
    let date: String = time(manifest.made_at).chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    format!("tidegate-{}-{date}", manifest.cluster.get(..8).unwrap_or_default())
}

fn inspect(file: &Path, key: Option<&Path>, output: Output) -> Result<Exit, Error> {
    let bytes = read_file(file)?;
    let key = key.map(read_key).transpose()?;
    let manifest = disaster::inspect(&bytes, key.as_ref()).map_err(local)?;
    let told = Told { file: file.display().to_string(), bytes: bytes.len(), manifest: &manifest };
    either(output, &told, |_| {
        print::line(&worded(&manifest));
        let opens = if key.is_some() {
            "every byte is as it was written, and the key opens it"
        } else {
            "every byte is as it was written"
        };
        print::line(opens);
    });
    Ok(Exit::Ok)
}

fn worded(manifest: &Manifest) -> String {
    let Manifest { counts, .. } = manifest;
    let mut text = format!(
        "cluster {}   epoch {}   made {} by node {} (release {}, feature level {})\n\
         signed by the CA {}\nsealed for {}\n\
         control entry {}   quota entry {}   document revision {}\n",
        manifest.cluster,
        manifest.epoch,
        time(manifest.made_at),
        manifest.node,
        print::clean(&manifest.release),
        manifest.feature_level,
        manifest.ca,
        print::clean(&manifest.key),
        manifest.control_index,
        manifest.quota_index,
        counts.revision,
    );
    text.push_str(&format!(
        "{} documents, {} keys ({} revoked), {} admin tokens, {} certificates, {} secrets, {} orders, {} limits, \
         {} counters of budgets, {} nodes\n",
        counts.documents,
        counts.keys,
        counts.revoked_keys,
        counts.admin_tokens,
        counts.certificates,
        counts.secrets,
        counts.orders,
        counts.limits,
        counts.budgets,
        counts.nodes
    ));
    let rows = manifest
        .sections
        .iter()
        .map(|section| vec![section.name.clone(), section.bytes.to_string(), section.blake3.clone()]);
    text.push_str(&print::rendered(&["section", "bytes", "blake3"], rows.collect()));
    text
}

pub(super) fn new_key(verb: &NewKey, output: Output) -> Result<Exit, Error> {
    let key = BackupKey::new();
    let public = key.recipient().map_err(|why| Error::Local(anyhow::anyhow!(why)))?;
    let text = format!(
        "# Opens backups of Tidegate: whoever has this has all that is in them. Keep it away from the machines of the cluster.\n\
         # public half: {public}\n{}\n",
        key.reveal()
    );
    let path = verb.out.display();
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&verb.out);
    let written = file.as_mut().map_err(|error| std::io::Error::new(error.kind(), error.to_string()));
    let written = written.and_then(|file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    let exists = written.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::AlreadyExists);
    let hint = if exists { " (nothing is written over: name another file with --out)" } else { "" };
    written.with_context(|| format!("writing {path}{hint}")).map_err(Error::Local)?;
    either(output, &json!({"file": path.to_string(), "key": public.to_string()}), |_| {
        eprintln!("{path} opens backups: keep it away from the machines of the cluster, and twice");
        eprintln!("nodes need its public half only:");
        print::line(&public.to_string());
    });
    Ok(Exit::Ok)
}

// ---- restore ----

pub(super) fn restore(verb: Restore, output: Output) -> Result<Exit, Error> {
    let key = read_key(&verb.key_file)?;
    let bytes = read_file(&verb.file)?;
    let name = crate::serve::node_name(verb.name.unwrap_or_else(crate::serve::host_name));
    let name = name.map_err(|why| Error::Usage(format!("--name: {why}")))?;
    let wish = Wish { name, now: now(), budgets: verb.budgets.into() };
    let restored = wait(disaster::restore(&bytes, &key, &verb.data, &wish))?.map_err(local)?;
    let names = names(restored.document.as_deref());
    let (data, cluster) = (verb.data.display().to_string(), restored.cluster.to_string());
    let value = json!({
        "data": data, "cluster": cluster, "node": restored.node.0, "epoch": restored.epoch,
        "backup": restored.manifest, "limits": reckoned_json(&restored.reckoned, &names),
    });
    either(output, &value, |_| {
        print::line(&format!(
            "{data} is node {} of the new cluster {cluster} (epoch {})",
            restored.node, restored.epoch
        ));
        print::line(&format!(
            "as of {}: what was changed or spent after that is lost",
            time(restored.manifest.made_at)
        ));
        print::line(&reckoned(&restored.reckoned, &names));
        print::line(&format!(
            "next: tidegate serve --data {data}     then `tidegate cluster add` for each other machine, with an empty folder"
        ));
        print::line(&format!("an admin token is in {data}/admin.token; those of the old cluster are good as well"));
    });
    Ok(Exit::Ok)
}

// ---- recover ----

pub(super) fn recover(verb: &Recover, output: Output) -> Result<Exit, Error> {
    let survivor = wait(disaster::survey(&verb.data))?.map_err(local)?;
    let (now, budgets) = (now(), Budgets::from(verb.budgets));
    let names = names(survivor.state().documents.latest().map(|published| &*published.document));
    let limits = survivor.reckon(now, budgets);
    let lost = lost_json(&survivor, &limits, &names);
    if !verb.yes {
        either(output, &json!({"done": false, "lost": lost}), |_| {
            print::line(&lost_worded(&survivor, &limits, &names));
            print::line("nothing was changed. To go on: the same with --yes");
        });
        return Ok(Exit::Refused);
    }
    let words = lost_worded(&survivor, &limits, &names);
    let recovered = wait(disaster::recover(survivor, now, budgets))?.map_err(local)?;
    let (data, cluster) = (verb.data.display().to_string(), recovered.cluster.to_string());
    let value = json!({
        "done": true, "data": data, "cluster": cluster, "node": recovered.node.0, "epoch": recovered.epoch, "lost": lost,
    });
    either(output, &value, |_| {
        print::line(&words);
        print::line(&format!(
            "{data} is node {} of the new cluster {cluster} (epoch {})",
            recovered.node, recovered.epoch
        ));
        print::line(
            "next: start it as before, then `tidegate cluster add` for each other machine, with an empty folder",
        );
    });
    Ok(Exit::Ok)
}

fn lost_worded(survivor: &Survivor, limits: &[Reckoned], names: &BTreeMap<LimitId, String>) -> String {
    let [control, quota] = survivor.standing();
    let state = survivor.state();
    let dead = state.members.nodes().filter(|node| node.id != survivor.node());
    let dead: Vec<String> = dead.map(|node| format!("{} ({})", node.id, print::clean(&node.name))).collect();
    let mut text = format!(
        "node {} goes on alone as a new cluster; nodes {} of cluster {} are refused for good\n",
        survivor.node(),
        if dead.is_empty() { "-".to_owned() } else { dead.join(", ") },
        survivor.cluster(),
    );
    if survivor.voters() == [survivor.node()] {
        text.push_str("it votes alone, so it needs no recovery: start it as it is, unless you want to be rid of the others at once\n");
    }
    text.push_str("stop them all first: one that still serves counts on its own\n\nwhat may be lost:\n");
    for (name, standing) in [("control", control), ("quota", quota)] {
        let unsure = standing.last - standing.committed;
        text.push_str(&format!(
            "  {name:<8} whatever was acknowledged after entry {} and did not come here{}\n",
            standing.last,
            standing.heard.map(|at| format!(" (last heard {})", time(millis(at)))).unwrap_or_default(),
        ));
        if unsure > 0 {
            text.push_str(&format!(
                "           {unsure} entries after entry {} may never have been acknowledged, and are kept\n",
                standing.committed
            ));
        }
    }
    text.push_str(&format!("  the document is revision {}\n", state.documents.current().0));
    text.push_str(&reckoned(limits, names));
    text
}

fn lost_json(survivor: &Survivor, limits: &[Reckoned], names: &BTreeMap<LimitId, String>) -> serde_json::Value {
    let log = |standing: Standing| {
        json!({
            "committed": standing.committed, "last": standing.last, "uncertain": standing.last - standing.committed,
            "last_heard": standing.heard.map(|at| time(millis(at))),
        })
    };
    let [control, quota] = survivor.standing();
    let nodes: Vec<u64> = survivor.state().members.nodes().map(|node| node.id.0).collect();
    json!({
        "cluster": survivor.cluster().to_string(), "node": survivor.node().0, "nodes": nodes,
        "voters": survivor.voters().iter().map(|node| node.0).collect::<Vec<_>>(),
        "revision": survivor.state().documents.current().0,
        "control": log(control), "quota": log(quota), "limits": reckoned_json(limits, names),
    })
}

fn reckoned_json(limits: &[Reckoned], names: &BTreeMap<LimitId, String>) -> Vec<serde_json::Value> {
    let row = |limit: &Reckoned| {
        let held: BTreeMap<String, u64> = limit.held.iter().map(|(node, held)| (node.to_string(), held.0)).collect();
        json!({
            "limit": name(limit.limit, names), "closed": limit.is_closed,
            "closed_for_ms": limit.closed_for.0 / 1_000_000, "held": held,
        })
    };
    limits.iter().map(row).collect()
}

fn reckoned(limits: &[Reckoned], names: &BTreeMap<LimitId, String>) -> String {
    let row = |limit: &Reckoned| {
        let held: Vec<String> = limit.held.iter().map(|(node, held)| format!("{} by node {node}", held.0)).collect();
        let held = if held.is_empty() { "-".to_owned() } else { held.join(", ") };
        let what = match (limit.is_closed, limit.closed_for.0) {
            (true, 0) => "closed until its period ends".to_owned(),
            (true, nanos) => {
                format!("closed for {}", Duration::from_nanos(nanos).as_secs_f64().ceil().to_string() + " s")
            }
            (false, _) => {
                "goes on from what is known; what was held counts as spent, what came later is not known".to_owned()
            }
        };
        vec![name(limit.limit, names), what, held]
    };
    print::rendered(&["limit", "from now on", "held at the last known entry"], limits.iter().map(row).collect())
}

fn name(limit: LimitId, names: &BTreeMap<LimitId, String>) -> String {
    names.get(&limit).cloned().unwrap_or_else(|| format!("{:x} (of an older document)", limit.0))
}

/// What people call the limits of a document.
fn names(document: Option<&str>) -> BTreeMap<LimitId, String> {
    let compiled = document.map(|text| tidegate_admin::compile(text, Revision(0), |_| Inputs::assumed()));
    let Some(Ok(compiled)) = compiled else { return BTreeMap::new() };
    compiled.snapshot.limits.iter().map(|limit| (limit.id, limit.name.clone())).collect()
}

// ---- files and clocks ----

fn read_key(path: &Path) -> Result<BackupKey, Error> {
    let text = fs::read_to_string(path).map_err(|error| Error::Usage(format!("{}: {error}", path.display())))?;
    BackupKey::parse(&text).map_err(|why| Error::Usage(format!("{}: {why}", path.display())))
}

fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).with_context(|| format!("reading {}", path.display())).map_err(Error::Local)
}

/// Aside, to the disk, renamed: under its name there is a whole file or none.
fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".tmp");
    let aside = PathBuf::from(aside);
    let write = || -> std::io::Result<()> {
        let _left_of_an_earlier_attempt = fs::remove_file(&aside);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        File::open(folder)?.sync_all()
    };
    let written = write();
    if written.is_err() {
        _ = fs::remove_file(&aside); // On a full disk it would take what room there is.
    }
    written.with_context(|| format!("writing {}", path.display()))
}

fn wait<T>(work: impl Future<Output = T>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(|error| Error::Local(error.into()))?.block_on(work))
}

fn local<E: Into<ClusterError>>(error: E) -> Error {
    let error: ClusterError = error.into();
    Error::Local(error.into())
}

fn now() -> Millis {
    Millis(millis(SystemTime::now()))
}

fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn time(millis: u64) -> String {
    tidegate_admin::backend::time(Millis(millis))
}
