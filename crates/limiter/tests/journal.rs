//! Journals of budgets: a process that is killed costs a budget nothing, a power failure next to nothing, and damage is
//! noticed and counts as spent.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_clock as clock;
use tidegate_limiter::journal::dead::Dead;
use tidegate_limiter::{Ask, Journal, Leases, Limiter, Settings, Unreachable};
use tidegate_model::{Incarnation, LimitId, Millis, Nanos, NodeId, Permits, Revision};
use tidegate_policy::{Cost, Kind, Limit, Mode, OnUnavailable};
use tidegate_quota::Ledger;
use tidegate_quota::protocol::{
    Batch, Budget, Command, Entry, Key, Note, Opening, Period, Reply, Rest, Span, Unit, log_time,
};

const NODE: NodeId = NodeId(1);

struct Leader(Mutex<(Ledger, Nanos)>);

impl Leader {
    fn new(limit: &Limit) -> Arc<Self> {
        let leader = Self(Mutex::new((Ledger::default(), clock::raw())));
        leader.apply(Command::SetPolicies { revision: Revision(1), policies: vec![limit.policy()] });
        let span = Span { start: Millis(60_000), end: Millis(u64::MAX / 2) };
        leader.apply(Command::OpenWindows(vec![Opening { limit: limit.id, number: span.number(), span }]));
        Arc::new(leader)
    }

    fn apply(&self, command: Command) -> Option<Reply> {
        let mut guard = self.0.lock().expect("no panic");
        let now = clock::raw();
        let dt = log_time(now.saturating_sub(guard.1));
        guard.1 = now;
        guard.0.apply(&Entry { dt, command }).replies.into_iter().next()
    }

    fn charged(&self, key: Key) -> u64 {
        self.apply(Command::Tick);
        self.0.lock().expect("no panic").0.charged(key).0
    }

    /// As the next process does.
    fn close(&self, folder: &Path) -> Vec<Dead> {
        let dead = Dead::read_all(folder, None).expect("a folder").0;
        for dead in &dead {
            for closing in dead.closings(NODE) {
                self.apply(Command::Note(Note::Close(closing)));
            }
            dead.bury().expect("a file");
        }
        dead
    }
}

impl Leases for Leader {
    fn exchange(&self, batch: Batch) -> Pin<Box<dyn Future<Output = Result<Reply, Unreachable>> + Send + '_>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(self.apply(Command::Batches(vec![batch])).expect("an answer"))
        })
    }

    fn recalled(&self) -> Pin<Box<dyn Future<Output = Key> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

fn budget(max: u64, cost: Cost) -> Limit {
    let (period, zone, unit) = (Period::Total, "UTC".into(), Unit::Count);
    Limit {
        id: LimitId(max),
        revision: Revision(1),
        name: "budget".into(),
        max: Permits(max),
        kind: Kind::Budget(Budget { period, zone, unit, carry: Permits::ZERO, alerts: vec![] }),
        cost,
        per: Vec::new(),
        mode: Mode::Enforce,
        on_unavailable: OnUnavailable::Deny,
        count_hits: true,
        on_missing: tidegate_policy::OnMissing::Share,
        terms: tidegate_policy::Terms::default(),
    }
}

/// A process, until it is dropped, which is as sudden as a SIGKILL to its files.
struct Process {
    limiter: Arc<Limiter>,
    journal: Arc<Journal>,
    tick: tokio::task::JoinHandle<()>,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.tick.abort();
    }
}

impl Process {
    fn start(folder: &Path, leader: &Arc<Leader>, life: u128) -> Self {
        let incarnation = Incarnation(life);
        let journal = Arc::new(Journal::new(folder, NODE, incarnation));
        let settings = Settings { node: NODE, incarnation, secret: [1; 16], most_keys: 1_000, decisions: None };
        let limiter = Limiter::with_journal(settings, Some(Arc::clone(&journal)));
        leader.apply(Command::Note(Note::Begin { node: NODE, incarnation }));
        let tick = tokio::spawn(Arc::clone(&limiter).run(Arc::clone(leader) as _));
        Self { limiter, journal, tick }
    }

    fn kill(&self) {
        self.tick.abort();
        self.journal.forsake();
    }

    fn ask<'a>(&self, limit: &'a Limit, who: &str) -> Ask<'a> {
        Ask { limit, subject: self.limiter.subject(limit, &[who.as_bytes()]), cost: Permits(1) }
    }

    async fn spend(&self, limit: &Limit, calls: u64) -> u64 {
        let mut passed = 0;
        for _ in 0..calls {
            if let Ok(permit) = self.limiter.admit(&[self.ask(limit, "acme")]).await {
                permit.commit(b"call");
                passed += 1;
            }
        }
        passed
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_process_that_lives_holds_is_not_settled() {
    let folder = tempfile::tempdir().expect("a folder");
    let limit = budget(4_000, Cost::ONE);
    let leader = Leader::new(&limit);
    let process = Process::start(folder.path(), &leader, 1);
    assert_eq!(process.spend(&limit, 5).await, 5);
    let (dead, alive) = Dead::read_all(folder.path(), None).expect("a folder");
    assert!(dead.is_empty() && alive == 1, "{dead:?}, {alive}");
    let (dead, alive) = Dead::read_all(folder.path(), Some(Incarnation(1))).expect("a folder");
    assert!(dead.is_empty() && alive == 0, "its own is not looked at: {dead:?}, {alive}");
    process.kill();
    let (dead, alive) = Dead::read_all(folder.path(), None).expect("a folder");
    assert!(dead.len() == 1 && alive == 0, "{dead:?}, {alive}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_costs_a_budget_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let limit = budget(4_000, Cost::ONE);
    let leader = Leader::new(&limit);
    let mut spent = 0;
    for life in 1..=8_u128 {
        let process = Process::start(folder.path(), &leader, life);
        let key = process.ask(&limit, "acme").key();
        spent += process.spend(&limit, 37).await;
        // Dropped permits are not spent, whenever the process dies.
        drop(process.limiter.admit(&[process.ask(&limit, "acme")]).await);
        assert!(leader.charged(key) > spent, "a slice is held");
        // With some of its reports heard, or none.
        tokio::time::sleep(Duration::from_millis(10 * u64::try_from(life).expect("small"))).await;
        process.kill();
        let dead = leader.close(folder.path());
        assert!(dead.len() == 1 && dead[0].is_exact && dead[0].damage.is_empty(), "{dead:?}");
        assert!((spent..=spent + 1).contains(&leader.charged(key)), "{spent}, {}", leader.charged(key));
    }
    assert_eq!(spent, 8 * 37);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reservations_of_a_killed_process_count_as_their_bound_and_settled_ones_as_what_was_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let limit = budget(10_000, Cost::ResponseBytes { estimate: Permits(100) });
    let leader = Leader::new(&limit);
    let process = Process::start(folder.path(), &leader, 1);
    let ask = Ask { cost: Permits(100), ..process.ask(&limit, "acme") };
    let mut done = process.limiter.admit(&[ask]).await.expect("there").commit(b"done").expect("it runs");
    done.used(0, Permits(30));
    drop(done);
    let running = process.limiter.admit(&[ask]).await.expect("there").commit(b"runs").expect("it runs");
    process.kill();
    leader.close(folder.path());
    assert_eq!(leader.charged(ask.key()), 130);
    drop(running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_power_failure_what_was_at_hand_is_spent_and_the_rest_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let limit = budget(16_000, Cost::ONE);
    let leader = Leader::new(&limit);
    let process = Process::start(folder.path(), &leader, 1);
    let key = process.ask(&limit, "acme").key();
    let spent = process.spend(&limit, 400).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let held = leader.charged(key);
    process.kill();
    // Another run of the machine: words six and seven of the header, and its check, as that boot would have written them.
    let file = std::fs::read_dir(folder.path()).expect("a folder").flatten().next().expect("a journal").path();
    let bytes = std::fs::read(&file).expect("a journal");
    let other = tidegate_limiter::journal::dead::as_of_another_boot(&bytes);
    std::fs::write(&file, other).expect("a journal");
    let dead = leader.close(folder.path());
    assert!(!dead[0].is_exact && dead[0].damage.is_empty(), "{dead:?}");
    let charged = leader.charged(key);
    assert!((spent..held).contains(&charged), "{charged} charged, {spent} spent, {held} held");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_journal_is_named_and_nothing_it_may_hide_comes_back() {
    let limit = budget(4_000, Cost::ONE);
    // The header; whose the lease is; what was taken of it; and a file that ends too soon.
    for (at, comes_back) in [(16, false), (128 + 8, false), (128 + 9 * 8, true), (usize::MAX, false)] {
        let folder = tempfile::tempdir().expect("a folder");
        let leader = Leader::new(&limit);
        let process = Process::start(folder.path(), &leader, 1);
        let key = process.ask(&limit, "acme").key();
        let spent = process.spend(&limit, 30).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        let held = leader.charged(key);
        process.kill();
        let path = std::fs::read_dir(folder.path()).expect("a folder").flatten().next().expect("a journal").path();
        let file = std::fs::File::options().read(true).write(true).open(&path).expect("a journal");
        if at == usize::MAX {
            file.set_len(200).expect("shorter");
        } else {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at as u64).expect("a byte");
            file.write_all_at(&[byte[0] ^ 4], at as u64).expect("a byte");
        }
        let dead = leader.close(folder.path());
        assert_eq!(dead[0].damage.len(), 1, "{dead:?}");
        let rest = dead[0].closings(NODE).pop().expect("a last part").rest;
        assert_eq!(rest, Some(if comes_back { Rest::Unspent } else { Rest::Spent }));
        let charged = leader.charged(key);
        assert!(
            if comes_back { (spent..=held).contains(&charged) } else { charged == held },
            "{charged}, {held}, {at}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_are_used_again_and_a_journal_without_budgets_is_never_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let limit = budget(4_000, Cost::ONE);
    let leader = Leader::new(&limit);
    let process = Process::start(folder.path(), &leader, 1);
    let mut plain = limit.clone();
    plain.kind = Kind::Sliding { window: Nanos::SECOND };
    let _unknown = process.limiter.admit(&[process.ask(&plain, "acme")]).await;
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    for who in 0..1_500 {
        let ask = process.ask(&limit, &format!("number {who}"));
        process.limiter.admit(&[ask]).await.expect("each has its own").commit(b"call");
    }
    process.journal.begun().await;
    process.kill();
    let dead = Dead::read_all(folder.path(), None).expect("a folder").0;
    assert!(dead[0].damage.is_empty(), "{dead:?}");
    // Of keys that made room for others nothing is left here.
    assert!((900..=1_000).contains(&dead[0].leases()), "{}", dead[0].leases());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_place_on_the_disk_calls_go_on_and_the_journal_says_later_that_it_is_not_whole() {
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join("journal");
    std::fs::write(&folder, "in the way").expect("a file");
    let limit = budget(4_000, Cost::ONE);
    let leader = Leader::new(&limit);
    let process = Process::start(&folder, &leader, 1);
    assert_eq!(process.spend(&limit, 20).await, 20);
    std::fs::remove_file(&folder).expect("a file");
    let other = process.ask(&limit, "other");
    process.limiter.admit(&[other]).await.expect("there").commit(b"call");
    tokio::time::sleep(Duration::from_millis(30)).await;
    let (key, other) = (process.ask(&limit, "acme").key(), other.key());
    let held = leader.charged(key);
    process.kill();
    let dead = leader.close(&folder);
    assert_eq!((dead.len(), dead[0].leases()), (1, 1), "{dead:?}");
    assert_eq!((leader.charged(key), leader.charged(other)), (held, 1), "what it does not name is spent");
}
