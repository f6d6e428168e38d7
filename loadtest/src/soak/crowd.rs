//! The clients: so many at a time, each with a connection of its own that it changes now and then, until they are sent home.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Response;
use hyper::body::Incoming;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::ask::Ask;
use super::line::{Line, Target, Trust, Wire};
use super::part::Part;
use super::pattern::Dice;
use super::tally::Tally;
use super::{judge, rooms, rough};

/// How long an answer may take, longer than anything that is asked for.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long clients may take to finish what they are at.
const LAST_ORDERS: Duration = Duration::from_secs(40);
/// Requests that an h2 connection is given at once.
const AT_ONCE: usize = 3;
/// Clients by what they speak.
const CLIENTS: [(Wire, usize); 4] = [(Wire::Plain, 8), (Wire::Tls, 4), (Wire::H2, 4), (Wire::H2Tls, 4)];

/// What every client knows.
pub(super) struct World {
    targets: Mutex<Vec<Arc<Target>>>,
    pub(super) trust: Trust,
    pub(super) tally: Tally,
    /// A key of a consumer.
    pub(super) key: String,
}

impl World {
    pub(super) fn new(targets: Vec<Arc<Target>>, trust: Trust, key: String) -> Self {
        Self { targets: Mutex::new(targets), trust, tally: Tally::new(), key }
    }

    /// Any node that is not on its way out.
    pub(super) fn target(&self, dice: &mut Dice) -> Arc<Target> {
        let targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(dice.one_of(&targets))
    }

    pub(super) fn enter(&self, target: Arc<Target>) {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).push(target);
    }

    /// No new connection goes there; those that are open live on.
    pub(super) fn leave(&self, target: &Target) {
        target.leaving.store(true, Relaxed);
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| other.name != target.name);
    }
}

/// They go home when it is dropped, too, but without a word.
pub(super) struct Crowd {
    clients: JoinSet<()>,
    home: Arc<AtomicBool>,
}

/// One client: what it knows, its dice, and whether it is to go.
pub(super) struct Client {
    pub(super) world: Arc<World>,
    pub(super) dice: Dice,
    home: Arc<AtomicBool>,
}

impl Client {
    pub(super) fn goes_on(&self) -> bool {
        !self.home.load(Relaxed)
    }
}

impl Crowd {
    /// `rate`: of short requests per second, all clients together.
    pub(super) fn start(runtime: &Runtime, world: &Arc<World>, rate: f64, seed: u64, only: &[Part]) -> Self {
        let wanted = |part: Part| part.is_among(only);
        let mut crowd = Self { clients: JoinSet::new(), home: Arc::default() };
        let (mut seed, home) = (seed, Arc::clone(&crowd.home));
        let mut client = || {
            seed += 1;
            Client { world: Arc::clone(world), dice: Dice::new(seed), home: Arc::clone(&home) }
        };
        let _within = runtime.enter();
        let each = |wire: Wire| if wire.is_h2() { AT_ONCE } else { 1 };
        let at_once: usize = CLIENTS.iter().map(|(wire, count)| count * each(*wire)).sum();
        #[expect(clippy::cast_precision_loss, reason = "a few dozen")]
        let gap = Duration::from_secs_f64(at_once as f64 / rate);
        for (wire, count) in CLIENTS.into_iter().filter(|_| wanted(Part::Short)) {
            for _ in 0..count {
                crowd.clients.spawn(mixed(client(), wire, gap));
            }
        }
        for wire in Wire::ALL {
            if wanted(Part::Events) {
                crowd.clients.spawn(one_after_another(client(), wire, |_| Ask::events()));
            }
            if wanted(Part::Chats) {
                crowd.clients.spawn(one_after_another(client(), wire, Ask::chat));
            }
            if wanted(Part::Slow) {
                crowd.clients.spawn(one_after_another(client(), wire, Ask::slow_reader));
                crowd.clients.spawn(one_after_another(client(), wire, Ask::slow_sender));
            }
            if wanted(Part::HangUps) {
                crowd.clients.spawn(rough::leave_in_the_middle(client(), wire));
            }
        }
        for wire in [Wire::Plain, Wire::Plain, Wire::Tls, Wire::Tls].into_iter().filter(|_| wanted(Part::Rooms)) {
            crowd.clients.spawn(rooms::visit(client(), wire));
        }
        crowd
    }

    /// Waits until everybody has finished; `false`: somebody did not.
    pub(super) fn send_home(mut self, runtime: &Runtime) -> bool {
        self.home.store(true, Relaxed);
        runtime.block_on(async {
            let all = async { while self.clients.join_next().await.is_some() {} };
            timeout(LAST_ORDERS, all).await.is_ok()
        })
    }
}

/// Draws requests at a steady pace; what is late is caught up with for a second, not for ever.
async fn mixed(mut client: Client, wire: Wire, gap: Duration) {
    let mut line = None;
    let mut due = Instant::now() + gap.mul_f64(f64::from(u16::try_from(client.dice.below(1_000)).unwrap_or(0)) / 1e3);
    while client.goes_on() {
        sleep_until(due).await;
        due = (due + gap).max(Instant::now() - Duration::from_secs(1));
        let count = if wire.is_h2() { AT_ONCE } else { 1 };
        let key = client.world.key.clone();
        let asks = (0..count).map(|_| Ask::draw(&mut client.dice, &key)).collect();
        exchange(&mut client, &mut line, wire, asks).await;
        if client.dice.below(40) == 0 {
            line = None; // a new one, to any node
        }
    }
}

async fn one_after_another(mut client: Client, wire: Wire, mut ask: impl FnMut(&mut Dice) -> Ask) {
    let mut line = None;
    while client.goes_on() {
        let next = ask(&mut client.dice);
        exchange(&mut client, &mut line, wire, vec![next]).await;
        if client.dice.below(6) == 0 {
            line = None;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Asks all of them on one connection, and those once more elsewhere whose connection ended unasked at a node that leaves.
async fn exchange(client: &mut Client, slot: &mut Option<Line>, wire: Wire, mut asks: Vec<Ask>) {
    for _ in 0..3 {
        let Some(line) = line(client, slot, wire, &asks).await else { return };
        let (target, used) = (Arc::clone(&line.target), line.asked > 0);
        let mut under_way = JoinSet::new();
        for ask in asks.drain(..) {
            let sent = line.send(ask.request(line));
            under_way.spawn(settle(Arc::clone(&client.world), Arc::clone(&target), wire, ask, used, sent));
        }
        while let Some(settled) = under_way.join_next().await {
            asks.extend(settled.expect("nobody aborts it, and it does not panic"));
        }
        if asks.is_empty() {
            return;
        }
        *slot = None;
    }
    for ask in asks {
        client.world.tally.note(ask.kind, "-", "cut", || "by one leaving node after another".to_owned());
    }
}

/// The one there is, or a new one.
async fn line<'s>(client: &mut Client, slot: &'s mut Option<Line>, wire: Wire, asks: &[Ask]) -> Option<&'s mut Line> {
    let usable = match slot {
        Some(line) => line.is_ready().await,
        None => false,
    };
    if !usable {
        *slot = None;
    }
    for _ in 0..3 {
        if slot.is_some() {
            break;
        }
        let target = client.world.target(&mut client.dice);
        match Line::open(Arc::clone(&target), wire, &client.world.trust).await {
            Ok(line) => *slot = Some(line),
            Err(_) if target.is_leaving() => {}
            Err(why) => {
                let kind = asks.first()?.kind;
                client.world.tally.note(kind, &target.name, "no connection", || format!("{}: {why}", wire.name()));
                return None;
            }
        }
    }
    slot.as_mut()
}

/// Notes what came of it; gives it back if it may be asked again.
async fn settle(
    world: Arc<World>,
    target: Arc<Target>,
    wire: Wire,
    ask: Ask,
    used: bool,
    sent: impl Future<Output = hyper::Result<Response<Incoming>>>,
) -> Option<Ask> {
    let began = Instant::now();
    let (outcome, detail) = match timeout(PATIENCE, sent).await {
        Err(_) => ("no answer".to_owned(), String::new()),
        Ok(Err(_)) if used && target.is_leaving() => return Some(ask),
        Ok(Err(why)) => ("cut".to_owned(), format!("{why:?}")),
        Ok(Ok(response)) => match timeout(PATIENCE, judge::read(response, &ask.expect)).await {
            Ok(outcome) => (outcome.name, outcome.detail),
            Err(_) => ("no end".to_owned(), String::new()),
        },
    };
    world.tally.note(ask.kind, &target.name, &outcome, || {
        let took = began.elapsed().as_millis();
        let detail: String = detail.chars().take(600).collect();
        format!("{} {} over {}, after {took} ms; {detail}", ask.method, ask.path, wire.name())
    });
    None
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::backend::{Endpoint, Seen};
    use super::super::listed::Kind;
    use super::*;

    fn at(address: SocketAddr, leaving: bool) -> Arc<Target> {
        Arc::new(Target { name: "n1".into(), http: address, https: address, leaving: AtomicBool::new(leaving) })
    }

    /// Clients that take the backend itself for a node.
    fn directly() -> (Runtime, Endpoint, Arc<World>, Client) {
        let runtime = Runtime::new().expect("a runtime");
        let endpoint = Endpoint::start(runtime.handle(), &Arc::<Seen>::default()).expect("loopback");
        let certificate = rcgen::generate_simple_self_signed(["soak.test".to_owned()]).expect("made").cert.pem();
        let trust = Trust::of(&certificate).expect("a certificate");
        let world = Arc::new(World::new(vec![at(endpoint.address, false)], trust, "a-key-of-ours".into()));
        let client = Client { world: Arc::clone(&world), dice: Dice::new(7), home: Arc::default() };
        (runtime, endpoint, world, client)
    }

    #[test]
    fn every_body_of_an_honest_backend_is_found_right() {
        let (runtime, _endpoint, world, mut client) = directly();
        let mut asks: Vec<Ask> = (0..200).map(|_| Ask::draw(&mut client.dice, "a-key-of-ours")).collect();
        asks.retain(|ask| matches!(ask.kind, Kind::Small | Kind::Large | Kind::Cached));
        asks.push(Ask::slow_sender(&mut client.dice));
        let count = asks.len() as u64;
        runtime.block_on(async {
            let mut line = None;
            for ask in asks {
                exchange(&mut client, &mut line, Wire::Plain, vec![ask]).await;
            }
        });
        assert_eq!((world.tally.all(), world.tally.unlisted()), (count, 0), "{:?}", world.tally.failures());
    }

    #[test]
    fn a_broken_answer_is_named_as_what_it_is_and_told_with_its_request() {
        let (runtime, _endpoint, world, mut client) = directly();
        let mut wrong = Ask::events();
        wrong.path = "/events/39".to_owned(); // one event too few
        runtime.block_on(exchange(&mut client, &mut None, Wire::Plain, vec![wrong]));
        let failure = &world.tally.failures()[0];
        assert_eq!((failure.kind, failure.outcome.as_str()), (Kind::Events, "200 wrong"));
        assert!(failure.to_string().contains("/events/39 over h1"), "{failure}");
    }

    #[test]
    fn only_what_a_leaving_node_left_unanswered_on_a_kept_connection_is_asked_again() {
        let (runtime, _endpoint, world, _) = directly();
        let settled = |used, leaving| {
            let target = at(([127, 0, 0, 1], 9).into(), leaving);
            let sent = async {
                // Nobody reads: this connection ends before an answer.
                let (near, far) = tokio::io::duplex(64);
                drop(far);
                let io = hyper_util::rt::TokioIo::new(near);
                let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
                tokio::spawn(async move { drop(connection.await) });
                sender.send_request(hyper::Request::new(super::super::upload::Upload::default())).await
            };
            let world = Arc::clone(&world);
            runtime.block_on(settle(world, target, Wire::Plain, Ask::events(), used, sent)).is_some()
        };
        assert!(settled(true, true));
        assert!(!settled(false, true) && !settled(true, false));
        assert_eq!(world.tally.counts().get(&(Kind::Events, "cut".to_owned())), Some(&2));
    }
}
