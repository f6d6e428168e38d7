//! `tidegate cluster …`

use std::time::Duration;

use clap::Subcommand;
use http::Method;
use tidegate_admin::proto::cluster::WatchRequest;
use tidegate_admin::wire::{
    ClusterKeyRotated, ClusterKeyState, ClusterStatus, Group, JoinToken, JoinTokenRequest, Node, NodeCertificate,
    Removed, TicketKeysRotated, TransferRequest, Transferred,
};
use tidegate_config::Span;

use super::client::{Ask, Client};
use super::exit::{Error, Exit};
use super::print::{self, either};
use super::{Output, disaster};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// The cluster as one node sees it
    Status {
        /// Go on showing it, until Ctrl-C; with -o json one line for each change
        #[arg(long)]
        watch: bool,
        /// How often the node looks for a change
        #[arg(long, value_name = "SPAN", default_value = "1s", value_parser = Span::or_seconds, requires = "watch")]
        interval: Duration,
    },
    /// What is wrong with the cluster, and how to mend it: asks every node
    Doctor,
    /// A token with which new nodes join
    Token(Lifetime),
    /// Print the command line that starts a new node, with a fresh token
    Add(Lifetime),
    /// Take a node out of the cluster for good; its id is never given out again
    Remove { id: u64 },
    /// Hand the leadership of the control group over
    Transfer {
        /// The voter that shall lead; default: the cluster picks one
        id: Option<u64>,
    },
    /// Save all that a new cluster needs as one sealed file, while this one serves
    Backup(Box<disaster::Backup>),
    /// Make the key that opens backups; needs no node
    BackupKey(disaster::NewKey),
    /// Make a new cluster of a backup, in an empty data folder; needs no node
    Restore(disaster::Restore),
    /// After the loss of the quorum for good: one survivor's data folder becomes a new cluster; its process does not run
    Recover(disaster::Recover),
    /// Renew the keys of TLS session tickets now; twice, and no session from before is taken up again
    RotateTickets,
    /// Replace the key that seals everything secret, while the cluster runs; `cluster status` tells when it is done
    RotateKey,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Lifetime {
    /// How long the token lives
    #[arg(long, value_name = "SPAN", default_value = "1h", value_parser = Span::or_seconds)]
    ttl: Duration,
    /// How many nodes may join with it
    #[arg(long, default_value_t = 1)]
    uses: u32,
}

/// What asks no node. `None`: ask one.
pub(super) fn without_a_node(verb: Verb, output: Output) -> Result<Result<Exit, Error>, Verb> {
    match verb {
        Verb::Backup(verb) => match disaster::of_a_file(&verb, output) {
            Some(done) => Ok(done),
            None => Err(Verb::Backup(verb)),
        },
        Verb::BackupKey(verb) => Ok(disaster::new_key(&verb, output)),
        Verb::Restore(verb) => Ok(disaster::restore(verb, output)),
        Verb::Recover(verb) => Ok(disaster::recover(&verb, output)),
        other => Err(other),
    }
}

pub(super) async fn run(client: &Client, verb: Verb, output: Output) -> Result<Exit, Error> {
    match verb {
        Verb::Status { watch: false, .. } => {
            let status: ClusterStatus = client.get("/v1/cluster").await?;
            either(output, &status, |status| print::line(&worded(status)));
        }
        Verb::Status { watch: true, interval } => return watch(client, interval, output).await,
        Verb::Doctor => return super::doctor::run(client, output).await,
        Verb::Token(lifetime) => {
            let token = token(client, &lifetime).await?;
            either(output, &token, |token| {
                eprintln!("join token, good until {} for {} node(s), shown this once:", token.expires_at, token.uses);
                print::line(&token.token);
            });
        }
        Verb::Add(lifetime) => {
            let token = token(client, &lifetime).await?;
            let Some(peer) = token.peers.first() else {
                return Err(Error::Local(anyhow::anyhow!("no node of the cluster says where it can be joined")));
            };
            let command = format!("tidegate serve --join {} --token {}", print::clean(peer), token.token);
            if output == Output::Json {
                print::json(&serde_json::json!({"command": command, "token": token}));
            } else {
                eprintln!("run this on the new machine, before {}:", token.expires_at);
                print::line(&command);
            }
        }
        Verb::Remove { id } => {
            let ask = Ask::new(Method::DELETE, &format!("/v1/cluster/nodes/{id}"));
            let removed: Removed = client.send(ask).await?;
            either(output, &removed, |removed| print::line(&format!("node {} is removed", removed.node)));
        }
        Verb::Transfer { id } => {
            let ask = Ask::new(Method::POST, "/v1/cluster/transfer").json(&TransferRequest { to: id });
            let moved: Transferred = client.send(ask).await?;
            either(output, &moved, |moved| print::line(&format!("node {} leads the control group", moved.leader)));
        }
        Verb::Backup(verb) => return disaster::backup(client, *verb, output).await,
        Verb::BackupKey(_) | Verb::Restore(_) | Verb::Recover(_) => {} // They ask no node.
        Verb::RotateKey => {
            let rotated: ClusterKeyRotated = client.send(Ask::new(Method::POST, "/v1/cluster/key")).await?;
            either(output, &rotated, |rotated| {
                let generation = rotated.generation;
                print::line(&format!(
                    "key {generation} is being handed out: `tidegate cluster status` tells when it is done"
                ));
            });
        }
        Verb::RotateTickets => {
            let rotated: TicketKeysRotated = client.send(Ask::new(Method::POST, "/v1/cluster/tickets")).await?;
            either(output, &rotated, |rotated| {
                print::line(&format!("the keys of session tickets are renewed (generation {})", rotated.generation));
            });
        }
    }
    Ok(Exit::Ok)
}

async fn token(client: &Client, lifetime: &Lifetime) -> Result<JoinToken, Error> {
    let body = JoinTokenRequest { ttl_seconds: Some(lifetime.ttl.as_secs()), uses: Some(lifetime.uses) };
    client.send(Ask::new(Method::POST, "/v1/cluster/token").json(&body)).await
}

/// Over gRPC: tidegate.cluster.v1 Watch.
async fn watch(client: &Client, interval: Duration, output: Output) -> Result<Exit, Error> {
    let interval_ms = u32::try_from(interval.as_millis()).unwrap_or(u32::MAX);
    let mut request = tonic::Request::new(WatchRequest { interval_ms, every: false });
    if let Some(token) = client.authorization()? {
        let value = token.to_str().ok().and_then(|text| text.parse().ok());
        let value = value.ok_or_else(|| Error::Usage("the token holds characters no token has".to_owned()))?;
        request.metadata_mut().insert("authorization", value);
    }
    let mut stream = match client.grpc().watch(request).await {
        Ok(response) => response.into_inner(),
        Err(status) => return Err(of_grpc(client, &status)),
    };
    loop {
        let message = tokio::select! {
            message = stream.message() => message,
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Ok),
        };
        let status: ClusterStatus = match message {
            Ok(Some(message)) => message.status.unwrap_or_default().into(),
            Ok(None) => return Err(Error::Unreachable(format!("{} ended the watch", client.base()))),
            Err(status) => return Err(of_grpc(client, &status)),
        };
        if !print::again(output, &status, worded) {
            return Ok(Exit::Ok); // Whoever read us left.
        }
    }
}

fn of_grpc(client: &Client, status: &tonic::Status) -> Error {
    use tidegate_admin::wire::ErrorBody;
    let code = match status.code() {
        tonic::Code::Unauthenticated => "unauthorized",
        tonic::Code::PermissionDenied => "forbidden",
        tonic::Code::ResourceExhausted => "too_many_failures",
        _ => {
            return match std::error::Error::source(status) {
                Some(source) => client.unreachable(source),
                None => Error::Unreachable(format!("{}: {}", client.base(), status.message())),
            };
        }
    };
    Error::Refused(Box::new(ErrorBody {
        code: code.to_owned(),
        message: status.message().to_owned(),
        request_id: String::new(),
        hint: None,
        problems: Vec::new(),
        revision: None,
    }))
}

fn worded(status: &ClusterStatus) -> String {
    let mut text = format!(
        "cluster {}   node {} is {}   document revision {}\n",
        print::clean(&status.cluster_id),
        status.node_id,
        status.readiness.as_str(),
        status.revision
    );
    for reason in &status.reasons {
        text.push_str(&format!("  because {}\n", print::clean(reason)));
    }
    text.push_str(&group("control", &status.control));
    text.push_str(&group("quota", &status.quota));
    if is_cut_off(status) {
        text.push_str("         that is what this node heard last: it is cut off, and does not know who lives (`tidegate cluster doctor`)\n");
    } else if !status.settled {
        text.push_str("voters   are being changed: wait with taking a node away\n");
    }
    for alarm in &status.alarms {
        text.push_str(&format!("ALARM    {}\n", print::clean(alarm)));
    }
    if let Some(certificate) = &status.certificate {
        let NodeCertificate { expires_at, renews_at } = certificate;
        let of = format!("its certificate among nodes ends {expires_at}, is renewed from {renews_at} on");
        text.push_str(&print::clean(&of));
        text.push('\n');
    }
    if let Some(key) = &status.cluster_key {
        text.push_str(&sealing_key(key));
    }
    text.push('\n');
    let header =
        ["id", "name", "role", "live", "leads", "zone", "revision", "applied", "peer", "admin", "version", "level"];
    text.push_str(&print::rendered(&header, status.nodes.iter().map(|node| row(status, node)).collect()));
    text
}

/// Without a lease of its own it does not know of the others'.
fn is_cut_off(status: &ClusterStatus) -> bool {
    status.nodes.iter().all(|node| !node.live)
}

fn sealing_key(key: &ClusterKeyState) -> String {
    let how = match key {
        ClusterKeyState { lacks: true, .. } => ", which this node does not have yet".to_owned(),
        ClusterKeyState { replacing: false, .. } => String::new(),
        ClusterKeyState { waits_for, .. } if !waits_for.is_empty() => {
            let nodes: Vec<_> = waits_for.iter().map(u64::to_string).collect();
            format!("; the next one is being handed out (not to node {} yet)", nodes.join(", "))
        }
        ClusterKeyState { older: 0, .. } => "; the next one is there, and will seal in a moment".to_owned(),
        ClusterKeyState { .. } => "; the one before is deleted in half a minute".to_owned(),
    };
    format!("secrets  are sealed with key {}{how}\n", key.generation)
}

fn group(name: &str, group: &Group) -> String {
    let leader = group.leader.map_or_else(|| "no leader".to_owned(), |leader| format!("leader {leader}"));
    format!("{name:<8} {leader}   term {}   applied {} of {}\n", group.term, group.applied, group.committed)
}

fn row(status: &ClusterStatus, node: &Node) -> Vec<String> {
    let leads = [("control", status.control.leader), ("quota", status.quota.leader)];
    let leads: Vec<&str> = leads.iter().filter(|(_, leader)| *leader == Some(node.id)).map(|(name, _)| *name).collect();
    let me = if node.id == status.node_id { "*" } else { "" };
    let live = match node.live {
        true => "yes",
        false if is_cut_off(status) && node.id != status.node_id => "?",
        false => "no",
    };
    vec![
        format!("{}{me}", node.id),
        node.name.clone(),
        node.role.as_str().to_owned(),
        live.to_owned(),
        if leads.is_empty() { "-".to_owned() } else { leads.join(",") },
        print::or_dash(node.zone.as_ref()),
        print::or_dash(node.revision),
        print::or_dash(node.applied),
        node.peer.clone(),
        node.admin.clone(),
        node.version.clone(),
        print::or_dash(node.feature_level.map(u64::from)),
    ]
}
