//! Taking a place: open the folder, be who it says or become somebody, open the groups, go on air, start the tasks.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_model::NodeId;
use tidegate_state::{Addresses, CA_KEY, ClusterId, Command, Form, Outcome, RequestId};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use crate::certificate::{self, Validity};
use crate::cluster::{Cluster, Inner, Recalled, wall};
use crate::compared;
use crate::control::Control;
use crate::disaster::install;
use crate::error::Error;
use crate::folder::{Folder, NodeFile, Stage};
use crate::gathering::{self, Meeting, Secret};
use crate::group::Group;
use crate::keys::{self, Keys, Ring};
use crate::leases::{Held, LeaseTable};
use crate::membership;
use crate::network::Network;
use crate::propose;
use crate::quota::{Desk, Leader, Quota};
use crate::ready::Waiting;
use crate::seal::ClusterKey;
use crate::server::Server;
use crate::settings::{Settings, Start};
use crate::token::{admin_token_hash, hash, new_admin_token, random};
use crate::transport::identity::{self, Identity};
use crate::transport::joining::{self, JoinRequest, Trust};
use crate::transport::listener::{Listener, Open};
use crate::transport::peers::{Peers, resolve};
use crate::transport::tls;
use crate::wire::GroupId;

/// Recall hints that wait for the limiter.
const RECALLS: usize = 16_384;
/// Alerts of budgets that nobody has told of yet.
const ALERTS: usize = 1_024;
/// A single node elects itself and commits; anything longer is a broken disk.
const FORMING: Duration = Duration::from_secs(30);

pub(crate) async fn start(settings: Settings) -> Result<Cluster, Error> {
    let folder = Folder::open(&settings.data)?;
    let socket = UdpSocket::bind(settings.bind).map_err(Error::io(format!("peer port {}", settings.bind)))?;
    let own = own_addresses(&settings, &socket).await?;

    unfinished(&folder, &settings.data)?;
    let mut place = match folder.node()? {
        Some(node) if node.stage == Stage::Forming => {
            folder.clear()?;
            take_place(&settings, &folder, &socket, &own).await?
        }
        Some(node) => Place::resume(&folder, node, settings.certificate_life)?,
        None => take_place(&settings, &folder, &socket, &own).await?,
    };
    let cluster = open(&settings, folder, socket, own, &place).await?;
    let placed = match place.forming.take() {
        Some(forming) => form(&cluster, &settings, forming).await,
        None => become_member(&cluster, &place),
    };
    if let Err(error) = placed {
        cluster.shutdown().await;
        return Err(error);
    }
    tasks(&cluster, place.goal);
    let cluster = Cluster { inner: cluster };
    cluster.listen_to_comparisons();
    let comparing = compared::compare_forever(cluster.clone());
    cluster.inner.spawn(comparing);
    Ok(cluster)
}

/// A restore that was killed must not become a new, empty cluster; of a recovery that was, nothing has happened.
fn unfinished(folder: &Folder, data: &Path) -> Result<(), Error> {
    if !install::is_unfinished(data) {
        return Ok(());
    }
    if folder.node()?.is_some() {
        return install::abandon(data);
    }
    let what = "in the data folder a restore was begun and not ended: do it again (tidegate cluster restore), or empty the folder";
    Err(Error::Settings(format!("{what} ({})", data.display())))
}

/// Who this node is.
struct Place {
    node: NodeFile,
    identity: Identity,
    ring: Ring,
    /// A control entry to apply before serving, if one is known.
    goal: Option<u64>,
    forming: Option<Forming>,
}

/// What only the founder has, until it is in the log.
struct Forming {
    ca_key: Vec<u8>,
}

impl Place {
    fn resume(folder: &Folder, node: NodeFile, life: Duration) -> Result<Self, Error> {
        let (identity, ring) = folder.identity(&node)?;
        let identity = certificate::revive(folder, identity, &ring, life)?;
        Ok(Self { node, identity, ring, goal: None, forming: None })
    }
}

async fn take_place(settings: &Settings, folder: &Folder, socket: &UdpSocket, own: &Addresses) -> Result<Place, Error> {
    let place = match &settings.start {
        Start::Bootstrap => found(settings, own)?,
        Start::Join { address, token } => join(settings, folder, own, address, &Trust::Token(token)).await?,
        Start::Gather { peers } => {
            let secret = settings.secret.as_ref();
            let secret = secret.ok_or_else(|| Error::Settings("initial peers need a cluster secret".into()))?;
            meet(settings, folder, socket, own, peers, secret).await?
        }
        Start::Resume => {
            let what = format!("the data folder {} holds no node", settings.data.display());
            return Err(Error::Settings(what));
        }
    };
    folder.write_identity(&place.identity, &place.ring)?;
    folder.write_node(&place.node)?;
    Ok(place)
}

/// With those who know the same secret.
async fn meet(
    settings: &Settings,
    folder: &Folder,
    socket: &UdpSocket,
    own: &Addresses,
    peers: &[String],
    secret: &Secret,
) -> Result<Place, Error> {
    let mut way = gathering::Way { failed: None, progress: settings.progress.clone() };
    loop {
        let address = match gathering::gather(folder, socket, &own.peer, peers, secret, &way).await? {
            Meeting::Form => return found(settings, own),
            Meeting::Join(address) => address,
        };
        match join(settings, folder, own, &address, &Trust::Secret(secret)).await {
            // It may be another one's turn, or the cluster's quorum may come back.
            Err(Error::JoinFailed(reason)) => {
                tracing::warn!(%reason, "not joined yet");
                way.failed = Some(address);
            }
            joined => return joined,
        }
    }
}

/// A new cluster: its id, its CA, its key.
fn found(settings: &Settings, own: &Addresses) -> Result<Place, Error> {
    let cluster = ClusterId(u128::from_le_bytes(random()));
    let (ca, ca_key) = identity::new_ca(cluster)?;
    let node = NodeId(1);
    let key = identity::new_key()?;
    let validity = Validity::starting(wall(), settings.certificate_life);
    let certificate = identity::sign(&identity::signing_request(&key)?, &ca, &ca_key, cluster, node, validity)?;
    let identity = Identity { cluster, node, ca, certificate, key: key.serialize_der() };
    let peers = BTreeMap::from([(node.0, own.peer.clone())]);
    let node = NodeFile::new(&identity, &settings.name, Stage::Forming, peers);
    Ok(Place { node, identity, ring: Ring::first(ClusterKey(random())), goal: None, forming: Some(Forming { ca_key }) })
}

async fn join(
    settings: &Settings,
    folder: &Folder,
    own: &Addresses,
    address: &str,
    trust: &Trust<'_>,
) -> Result<Place, Error> {
    // Kept from an interrupted attempt: the same key with the same token gets the same id.
    let key = match folder.read("tls/node.key").ok().and_then(|der| identity::read_key(&der).ok()) {
        Some(key) => key,
        None => identity::new_key()?,
    };
    folder.write("tls/node.key", &key.serialize_der())?;
    let secret = match trust {
        Trust::Token(token) => token.secret,
        Trust::Secret(secret) => secret.join_secret(&identity::public_key(&key)),
    };
    tracing::info!(%address, "joining a cluster through this node");
    settings.progress.is(format!("it asks {address} to be let in"));
    let request = JoinRequest {
        secret,
        name: settings.name.clone(),
        addresses: own.clone(),
        feature_level: settings.feature_level,
        signing_request: identity::signing_request(&key)?,
    };
    let (welcome, subjects) = joining::join(address, trust, &request, settings.join_patience).await?;
    let cluster_key = ClusterKey(welcome.cluster_key);
    let ring = match subjects {
        None => Ring::first(cluster_key),
        Some(subjects) => Ring::later(cluster_key, subjects),
    };
    let identity = Identity {
        cluster: welcome.cluster,
        node: welcome.node,
        ca: welcome.ca,
        certificate: welcome.certificate,
        key: key.serialize_der(),
    };
    let peers = welcome.members.into_iter().map(|(node, address)| (node.0, address)).collect();
    let node = NodeFile::new(&identity, &settings.name, Stage::Joining, peers);
    Ok(Place { node, identity, ring, goal: Some(welcome.index), forming: None })
}

async fn open(
    settings: &Settings,
    folder: Folder,
    socket: UdpSocket,
    own: Addresses,
    place: &Place,
) -> Result<Arc<Inner>, Error> {
    let identity = Arc::new(place.identity.clone());
    let runtime = quinn::default_runtime().ok_or_else(|| Error::Internal("no tokio runtime".into()))?;
    let shown = tls::Shown::new(&identity)?;
    let server = tls::server(&identity.ca, &shown, settings.secret.as_ref())?;
    let endpoint = quinn::Endpoint::new(quinn::EndpointConfig::default(), Some(server), socket, runtime);
    let endpoint = endpoint.map_err(Error::io("peer port"))?;
    let client = tls::client(&identity.ca, shown.clone())?;
    let peers = Peers::new(endpoint.clone(), client, identity.clone(), settings.feature_level, own.clone());
    let peers = Arc::new(peers);
    for (node, address) in &place.node.peers {
        peers.addresses.suggest(NodeId(*node), address);
    }

    let fresh = place.node.stage != Stage::Member;
    let network = |group| Network { peers: peers.clone(), group };
    let (me, control, quota) = (identity.node, folder.path("control"), folder.path("quota"));
    let (machine, news) = Control::new();
    let control = Group::open(GroupId::Control, me, &control, fresh, machine, network(GroupId::Control)).await?;
    let group = GroupId::Quota(0);
    let quota = match Group::open(group, me, &quota, fresh, Quota::default(), network(group)).await {
        Ok(quota) => quota,
        Err(error) => {
            control.shutdown().await;
            return Err(error);
        }
    };

    let (hints, to_send) = mpsc::channel(1024);
    let (alerts, alerted) = mpsc::channel(ALERTS);
    let (desk, deciding) = Desk::open(quota.clone(), hints, alerts);
    let (send, receive) = mpsc::channel(RECALLS);
    let inner = Arc::new(Inner {
        folder,
        identity: identity.clone(),
        keys: Keys::new(place.ring.clone()),
        shown,
        certificate_life: settings.certificate_life,
        key_grace: settings.key_grace,
        secret: settings.secret.clone(),
        settled: AtomicBool::new(place.forming.is_none()),
        name: place.node.name.clone(),
        own,
        zone: settings.zone.clone(),
        feature_level: settings.feature_level,
        heir_of: Mutex::new(settings.heir_of),
        acks: settings.acks,
        forget_after: settings.forget_after,
        peers,
        open: Arc::new(Open::default()),
        control,
        news,
        quota,
        desk,
        quota_leader: Leader::default(),
        alerted: tokio::sync::Mutex::new(alerted),
        recalled: Recalled { send, receive: tokio::sync::Mutex::new(receive) },
        leases: LeaseTable::default(),
        held: Held::default(),
        in_effect: AtomicU64::new(0),
        serves: AtomicU64::new(0),
        hashed: Mutex::default(),
        looked: crate::propose::Looked::default(),
        turns: crate::levels::Turns::default(),
        listeners: crate::message::Listeners::default(),
        renew_now: Notify::new(),
        converge_now: Notify::new(),
        voters: Mutex::default(),
        waiting: Waiting::new(),
        draining: AtomicBool::new(false),
        removed: watch::Sender::new(None),
        stopping: watch::Sender::new(false),
        compared: Mutex::default(),
        tasks: Mutex::new(JoinSet::new()),
    });
    inner.know_members();
    let handler = Arc::new(Server(inner.clone()));
    let (feature_level, open) = (settings.feature_level, inner.open.clone());
    inner.spawn(Listener { endpoint, identity, feature_level, handler, open }.run());
    inner.spawn(deciding);
    inner.spawn(membership::send_recalls(inner.clone(), to_send));
    Ok(inner)
}

/// The first entry of the cluster, and the first admin token.
async fn form(cluster: &Arc<Inner>, settings: &Settings, forming: Forming) -> Result<(), Error> {
    let admin = settings.first_admin_token.clone().map_or_else(new_admin_token, |token| token.0);
    cluster.control.initialize(&cluster.own.peer).await?;
    cluster.quota.initialize(&cluster.own.peer).await?;
    let key = identity::read_key(&cluster.identity.key)?;
    let command = Command::Form(Form {
        cluster: cluster.identity.cluster,
        name: settings.name.clone(),
        addresses: cluster.own.clone(),
        feature_level: settings.feature_level,
        ca: cluster.identity.ca.clone(),
        sealed_ca_key: cluster.keys.ring().oldest().seal(CA_KEY, &forming.ca_key).map_err(Error::Internal)?,
        public_key: identity::public_key(&key),
        admin_token: admin_token_hash(&admin),
    });
    let mut id = [0; 16];
    id.copy_from_slice(&hash(&cluster.identity.certificate)[..16]);
    let applied = propose::propose(cluster, RequestId(u128::from_le_bytes(id)), command, FORMING).await;
    let applied = applied.map_err(|error| Error::Internal(format!("forming the cluster: {error}")))?;
    if applied.outcome != (Outcome::Joined { node: cluster.me() }) {
        return Err(Error::Internal(format!("forming the cluster: {:?}", applied.outcome)));
    }
    cluster.folder.write("admin.token", format!("{admin}\n").as_bytes())?;
    cluster.know_members();
    cluster.write_node()?;
    // Before that a crash would have begun anew, and whoever had joined would be a node of nothing.
    cluster.settled.store(true, Ordering::Release);
    cluster.folder.remove(gathering::FILE)
}

fn become_member(cluster: &Arc<Inner>, place: &Place) -> Result<(), Error> {
    if place.node.stage == Stage::Member {
        return Ok(());
    }
    cluster.write_node()?;
    cluster.folder.remove(gathering::FILE)
}

fn tasks(cluster: &Arc<Inner>, goal: Option<u64>) {
    if let Some(goal) = goal {
        cluster.waiting.heard(goal);
    }
    cluster.spawn(membership::renew_forever(cluster.clone()));
    cluster.spawn(membership::converge_forever(cluster.clone()));
    cluster.spawn(membership::follow_members(cluster.clone()));
    cluster.spawn(membership::tell_addresses(cluster.clone()));
    cluster.spawn(cluster.control.clone().compact_forever());
    cluster.spawn(cluster.quota.clone().compact_forever());
    cluster.spawn(membership::elect_if_alone(cluster.clone()));
    cluster.spawn(membership::give_way_while_full(cluster.clone()));
    cluster.spawn(certificate::renew_forever(cluster.clone()));
    cluster.spawn(keys::follow_forever(cluster.clone()));
    cluster.spawn(crate::quota::turn_forever(cluster.clone()));
}

impl Inner {
    /// Takes the members' addresses from the state; an empty state (a joiner's) says nothing.
    pub(crate) fn know_members(&self) {
        let members: BTreeMap<NodeId, String> = self
            .control
            .read(|control| control.state.members.nodes().map(|node| (node.id, node.addresses.peer.clone())).collect());
        if !members.is_empty() {
            self.peers.addresses.replace(members);
        }
    }

    pub(crate) fn write_node(&self) -> Result<(), Error> {
        let peers = self.peers.addresses.all().into_iter().map(|(node, address)| (node.0, address)).collect();
        self.folder.write_node(&NodeFile::new(&self.identity, &self.name, Stage::Member, peers))
    }
}

async fn own_addresses(settings: &Settings, socket: &UdpSocket) -> Result<Addresses, Error> {
    socket.set_nonblocking(true).map_err(Error::io("peer port"))?;
    let bound = socket.local_addr().map_err(Error::io("peer port"))?;
    let peer = match &settings.advertise {
        Some(advertise) => advertise.clone(),
        None if bound.ip().is_unspecified() => SocketAddr::new(towards(settings).await, bound.port()).to_string(),
        None => bound.to_string(),
    };
    Ok(Addresses { peer, http: settings.http.clone(), admin: settings.admin.clone() })
}

/// Our address on the way to the node we join, or to the world. Connecting a UDP socket sends nothing.
async fn towards(settings: &Settings) -> IpAddr {
    let far = match &settings.start {
        Start::Join { address, .. } => resolve(address, None).await.ok(),
        Start::Gather { peers } => match peers.first() {
            Some(address) => resolve(address, None).await.ok(),
            None => None,
        },
        Start::Bootstrap | Start::Resume => None,
    };
    let far = far.unwrap_or_else(|| SocketAddr::from(([192, 0, 2, 1], 9))); // TEST-NET-1: any route will do.
    let local = || -> std::io::Result<IpAddr> {
        let any: SocketAddr = if far.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
        let probe = UdpSocket::bind(any)?;
        probe.connect(far)?;
        Ok(probe.local_addr()?.ip())
    };
    local().unwrap_or(IpAddr::from([127, 0, 0, 1]))
}
