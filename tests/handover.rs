//! A binary is replaced while it serves: another process takes the listening sockets and the data folder over.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Child;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::exactness::demand;
use crate::harness::{Answer, Backend, Client, Cluster, Failed, eventually, signal};
use crate::levels::levels_in;
use crate::scaling::watch;
use crate::walk::document;

/// Switches protocols and says what it hears.
async fn parrot() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                read_head(&mut socket).await;
                let switched = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
                socket.write_all(switched.as_bytes()).await.unwrap();
                let (mut read, mut write) = socket.split();
                let _ended = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

async fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// A WebSocket to the parrot.
async fn socket(at: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(at).await.unwrap();
    let asked = "GET /socket/x HTTP/1.1\r\nhost: gate\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-version: 13\r\nsec-websocket-key: dGVzdHRlc3R0ZXN0dGVzdA==\r\n\r\n";
    socket.write_all(asked.as_bytes()).await.unwrap();
    let head = read_head(&mut socket).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    socket
}

async fn parrots(socket: &mut TcpStream, word: &str) {
    socket.write_all(word.as_bytes()).await.unwrap();
    let mut heard = vec![0; word.len()];
    tokio::time::timeout(Duration::from_secs(10), socket.read_exact(&mut heard)).await.expect("an answer").unwrap();
    assert_eq!(heard, word.as_bytes());
}

fn with_sockets(document: &str, parrot: SocketAddr) -> String {
    let upstream = format!("  - {{name: parrot, endpoints: [{{url: \"http://{parrot}\"}}]}}\nroutes:\n");
    let route = "  - {name: sockets, match: {path: /socket/*}, to: [{upstream: parrot}], upgrade: true}\n";
    document.replace("routes:\n", &(upstream + route))
}

/// As every client of HTTP/2 asks: what a server that went away had not taken goes over another connection (RFC 9113 § 6.8), which the
/// client of these specs leaves to its caller.
async fn asked(client: &Client, url: &str, headers: &[(&str, &str)]) -> Result<Answer, Failed> {
    let answer = client.get(url, headers).await;
    match &answer {
        Err(why) if format!("{why:?}").contains(r#"GoAway(b"", NO_ERROR, Remote)"#) => client.get(url, headers).await,
        _ => answer,
    }
}

/// A machine that keeps nobody waiting for longer has time for a leader.
const FAIR: Duration = Duration::from_millis(50);

/// Requests without a pause for the node: over kept connections, a new one each, one of HTTP/2. What went wrong, and how many there were.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<(u64, Vec<String>)>>,
    stalled: std::thread::JoinHandle<Duration>,
    _watched: TempDir,
}

impl Load {
    fn on(urls: &[String], key: &str) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = Vec::new();
        for url in urls {
            for (closes, multiplexed) in [(false, false), (false, false), (true, false), (false, true)] {
                let (url, key, stop) = (url.clone(), key.to_owned(), Arc::clone(&stop));
                let answered = Arc::clone(&answered);
                tasks.push(tokio::spawn(async move {
                    let client = if multiplexed { Client::multiplexed() } else { Client::new() };
                    let (mut sent, mut failed) = (0, Vec::new());
                    let mut headers = vec![("authorization", key.as_str())];
                    if closes {
                        headers.push(("connection", "close"));
                    }
                    while !stop.load(Ordering::Relaxed) {
                        sent += 1;
                        match asked(&client, &url, &headers).await {
                            Ok(answer) if answer.status == StatusCode::OK => {}
                            other => failed.push(format!("{other:?}")),
                        }
                        answered.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(4)).await;
                    }
                    (sent, failed)
                }));
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let stalled = watch(folder.path().to_owned(), Arc::clone(&stop));
        Self { stop, answered, tasks, stalled, _watched: folder }
    }

    /// So many are answered from now on.
    async fn goes_on(&self, more: u64) {
        let wanted = self.answered.load(Ordering::Relaxed) + more;
        eventually("requests are answered", Duration::from_secs(60), async || {
            self.answered.load(Ordering::Relaxed) >= wanted
        })
        .await;
    }

    /// All went well.
    async fn ends(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut all, mut failed) = (0, Vec::new());
        for task in self.tasks {
            let (sent, went_wrong) = task.await.unwrap();
            all += sent;
            failed.extend(went_wrong);
        }
        let stalled = self.stalled.join().unwrap();
        // A machine that had no time for a leader is one without a leader, and then a limit rightly says so.
        let because_of_the_machine = |why: &String| FAIR < stalled && why.contains("limit_unavailable");
        failed.retain(|why| !because_of_the_machine(why));
        assert!(failed.is_empty(), "{} of {all} (stalled for {stalled:?}):\n{}", failed.len(), failed.join("\n"));
    }
}

/// How a process ended that was told to, or handed over.
async fn end_of(mut process: Child) -> Option<i32> {
    tokio::time::timeout(Duration::from_secs(60), process.wait()).await.expect("it ends").unwrap().code()
}

/// Serves what a revision that was published just now says, and under this process.
async fn serves(cluster: &Cluster, node: usize) {
    let pid = cluster.nodes[node].pid();
    assert_eq!(cluster.nodes[node].ready.as_ref().unwrap().pid, pid);
    let answer = cluster.client.get(&cluster.nodes[node].url("/open/x"), &[("connection", "close")]).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    let ready = cluster.client.get(&cluster.nodes[node].admin("/readyz"), &[]).await.unwrap();
    assert_eq!(ready.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_is_replaced_under_load_and_nobody_notices() {
    let (backend, mut cluster, parrot) = (Backend::start().await, Cluster::start(1).await, parrot().await);
    cluster.apply(&with_sockets(&document(&backend, 1_000_000, "1h"), parrot)).await;
    let key = cluster.bearer("acme", "/limited/x").await;
    let load = Load::on(&[cluster.nodes[0].url("/limited/x")], &key);
    let mut socket = socket(cluster.nodes[0].ready.as_ref().unwrap().http).await;
    parrots(&mut socket, "before").await;
    // Longer than a hand-over takes, and shorter than a node that ends waits for it.
    let stream = cluster.nodes[0].url("/open/stream?parts=60&pause_ms=100");
    let stream = Client::new().open(Method::GET, &stream, &[], Bytes::new()).await.unwrap();
    let whole = tokio::spawn(stream.into_body().collect());

    load.goes_on(50).await;
    let former = cluster.nodes[0].take_over(&[]);
    cluster.nodes[0].wait_until_ready().await;
    serves(&cluster, 0).await;
    parrots(&mut socket, "after").await;
    // Its word is the cluster's: it has the log, and it is a member as before.
    cluster.apply(&with_sockets(&document(&backend, 1_000_001, "1h"), parrot)).await;
    let whole = whole.await.unwrap().expect("the stream was not cut").to_bytes();
    assert!(whole.ends_with(b"part 59\n"), "{whole:?}");
    drop(socket);
    assert_eq!(end_of(former).await, Some(0), "{}", cluster.nodes[0].log());

    // And again: with more workers than there are sockets, and with fewer.
    for more in [["--workers", "5"], ["--workers", "1"]] {
        let former = cluster.nodes[0].take_over(&more);
        cluster.nodes[0].wait_until_ready().await;
        assert_eq!(end_of(former).await, Some(0), "{}", cluster.nodes[0].log());
        serves(&cluster, 0).await;
    }
    load.goes_on(50).await;
    load.ends().await;
    assert_eq!(cluster.nodes[0].drain().await, Some(0));
    assert!(
        TcpStream::connect(cluster.nodes[0].ready.as_ref().unwrap().http).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_stays_exact_while_processes_take_over_from_each_other() {
    const MAX: u64 = 400;
    const WINDOW: u64 = 4;
    let (backend, mut cluster) = (Backend::start().await, Cluster::start(1).await);
    cluster.apply(&document(&backend, MAX, &format!("{WINDOW}s"))).await;
    let key = cluster.bearer("acme", "/limited/x").await;
    let (started, runs) = (Instant::now(), Duration::from_secs(20));
    let rate = 2.0 * MAX as f64 / WINDOW as f64;
    let stop = Arc::new(AtomicBool::new(false));
    let folder = tempfile::tempdir().unwrap();
    let stalled = watch(folder.path().to_owned(), Arc::clone(&stop));
    let (tally, task) = demand(cluster.nodes[0].url("/limited/x"), key, rate, started + runs);
    for at in [5, 10] {
        tokio::time::sleep_until(started + Duration::from_secs(at)).await;
        let former = cluster.nodes[0].take_over(&[]);
        cluster.nodes[0].wait_until_ready().await;
        assert_eq!(end_of(former).await, Some(0), "{}", cluster.nodes[0].log());
    }
    task.await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let stalled = stalled.join().unwrap();
    println!("{tally:?}, stalled for {stalled:?}");
    let verdict = cluster.verify(&backend.seen()).await;
    println!("{verdict}");
    assert!(verdict["worst_window_ratio"].as_f64().unwrap() <= 1.0, "{verdict}");
    assert_eq!(verdict["backend_requests_missing"], 0, "{verdict}");
    let [broken, unavailable] = [&tally.broken, &tally.unavailable].map(|it| it.load(Ordering::Relaxed));
    assert_eq!(broken, 0, "{tally:?}");
    assert!(unavailable == 0 || FAIR < stalled, "{tally:?}, stalled for {stalled:?}");
    let share = verdict["limits"][0]["admitted_share"].as_f64().unwrap();
    assert!(share >= 0.7, "only {share:.3} of the limit was admitted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_after_the_other_is_replaced_and_the_leader_too() {
    let (backend, mut cluster) = (Backend::start().await, Cluster::start(3).await);
    cluster.apply(&document(&backend, 1_000_000, "1h")).await;
    let key = cluster.bearer("acme", "/limited/x").await;
    let urls: Vec<_> = cluster.nodes.iter().map(|node| node.url("/limited/x")).collect();
    let load = Load::on(&urls, &key);
    let leader = cluster.leader("control").await;
    for at in (0..3).filter(|at| *at != leader).chain([leader]) {
        let former = cluster.nodes[at].take_over(&[]);
        cluster.nodes[at].wait_until_ready().await;
        assert_eq!(end_of(former).await, Some(0), "{}", cluster.nodes[at].log());
        cluster.wait_for_voters(3).await;
        serves(&cluster, at).await;
        load.goes_on(100).await;
    }
    load.goes_on(50).await;
    load.ends().await;
    let mut ids: Vec<_> = cluster.nodes.iter().map(crate::harness::Node::id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3], "they are who they were");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_cannot_serve_costs_nothing_and_the_old_one_goes_on() {
    let (backend, mut cluster) = (Backend::start().await, Cluster::start(1).await);
    cluster.apply(&document(&backend, 1_000_000, "1h")).await;
    let key = cluster.bearer("acme", "/limited/x").await;
    let load = Load::on(&[cluster.nodes[0].url("/limited/x")], &key);
    let stream = cluster.nodes[0].url("/open/stream?parts=60&pause_ms=100");
    let stream = Client::new().open(Method::GET, &stream, &[], Bytes::new()).await.unwrap();
    let whole = tokio::spawn(stream.into_body().collect());
    let pid = cluster.nodes[0].pid();

    // Before it took anything: a certificate is not there.
    let nowhere = ["--admin-cert", "/nowhere.pem", "--admin-key", "/nowhere.key"];
    let former = cluster.nodes[0].take_over(&nowhere);
    assert_ne!(cluster.nodes[0].wait_for_end().await, Some(0));
    cluster.nodes[0].goes_on(former);
    // After it was given the folder: it has opened it, and finds out that it cannot go on.
    let former = cluster.nodes[0].take_over(&["--redis-url", "gopher://nowhere"]);
    assert_ne!(cluster.nodes[0].wait_for_end().await, Some(0), "{}", cluster.nodes[0].log());
    cluster.nodes[0].goes_on(former);
    cluster.nodes[0].wait_until_ready().await;
    assert_eq!(cluster.nodes[0].pid(), pid);
    assert!(cluster.nodes[0].log().contains("this process takes its node back"), "{}", cluster.nodes[0].log());
    serves(&cluster, 0).await;
    cluster.apply(&document(&backend, 1_000_001, "1h")).await;
    let whole = whole.await.unwrap().expect("the stream was not cut").to_bytes();
    assert!(whole.ends_with(b"part 59\n"), "{whole:?}");

    // The next one is a good one.
    let former = cluster.nodes[0].take_over(&[]);
    cluster.nodes[0].wait_until_ready().await;
    assert_eq!(end_of(former).await, Some(0), "{}", cluster.nodes[0].log());
    serves(&cluster, 0).await;
    load.goes_on(50).await;
    load.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_dies_or_hangs_once_it_has_the_folder_is_not_waited_for_for_ever() {
    let backend = Backend::start().await;
    let mut cluster = Cluster::start_with(1, &["--handover-timeout", "3s"]).await;
    cluster.apply(&document(&backend, 1_000_000, "1h")).await;
    let key = cluster.bearer("acme", "/limited/x").await;
    let load = Load::on(&[cluster.nodes[0].url("/limited/x")], &key);
    for (round, dies) in [true, false].into_iter().enumerate() {
        load.goes_on(50).await;
        let former = cluster.nodes[0].take_over(&["--stall"]);
        eventually("it was given the folder", Duration::from_secs(30), async || {
            cluster.nodes[0].log().matches("handing over").count() > round
        })
        .await;
        if dies {
            cluster.nodes[0].kill().await;
        } else {
            assert_eq!(cluster.nodes[0].wait_for_end().await, None, "it is killed");
        }
        cluster.nodes[0].goes_on(former);
        cluster.nodes[0].wait_until_ready().await;
        serves(&cluster, 0).await;
    }
    let former = cluster.nodes[0].take_over(&[]);
    cluster.nodes[0].wait_until_ready().await;
    assert_eq!(end_of(former).await, Some(0), "{}", cluster.nodes[0].log());
    load.goes_on(50).await;
    load.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_starts_the_program_and_systemd_is_told_whom_to_watch() {
    let (backend, mut cluster) = (Backend::start().await, Cluster::start(1).await);
    cluster.apply(&document(&backend, 1_000_000, "1h")).await;
    cluster.nodes[0].drain().await;
    let told = cluster.nodes[0].folder.join("notify");
    let systemd = UnixDatagram::bind(&told).unwrap();
    systemd.set_nonblocking(true).unwrap();
    cluster.nodes[0].environment = vec![("NOTIFY_SOCKET".into(), told.display().to_string())];
    cluster.nodes[0].spawn(None);
    cluster.nodes[0].wait_until_ready().await;
    let old = cluster.nodes[0].pid();
    assert_eq!(cluster.nodes[0].ready.as_ref().unwrap().pid, old);

    cluster.nodes[0].signal("USR2");
    assert_eq!(cluster.nodes[0].wait_for_end().await, Some(0), "{}", cluster.nodes[0].log());
    eventually("the new process is ready", Duration::from_secs(30), async || {
        cluster.nodes[0].look_again();
        cluster.nodes[0].ready.as_ref().unwrap().pid != old
    })
    .await;
    let new = cluster.nodes[0].ready.as_ref().unwrap().pid;
    assert_ne!(new, old);
    let mut said = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(length) = systemd.recv(&mut buffer) {
        said.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    assert!(said.contains(&format!("MAINPID={new}\n")) && !said.iter().any(|it| it.contains("STOPPING")), "{said:?}");
    let url = cluster.nodes[0].url("/open/x");
    assert_eq!(cluster.client.get(&url, &[]).await.unwrap().status, StatusCode::OK);
    // It is no child of ours.
    let told = std::process::Command::new("sh").arg("-c").arg(format!("kill -TERM {new}")).status();
    assert!(told.unwrap().success());
    eventually("it ends", Duration::from_secs(30), async || cluster.client.get(&url, &[]).await.is_err()).await;
}

#[tokio::test]
async fn a_program_that_speaks_of_other_hand_overs_is_told_so() {
    let cluster = Cluster::start(1).await;
    let mut door = UnixStream::connect(cluster.nodes[0].data.join("handover.sock")).unwrap();
    let hello = br#"{"tidegate_handover":99,"release":"9.0.0"}"#;
    door.write_all(&u32::try_from(hello.len()).unwrap().to_be_bytes()).unwrap();
    door.write_all(hello).unwrap();
    let mut answer = Vec::new();
    door.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[4..]).into_owned();
    assert!(answer.contains("refused") && answer.contains("stop the node and start it anew"), "{answer}");
    let ready = cluster.client.get(&cluster.nodes[0].admin("/readyz"), &[]).await.unwrap();
    assert_eq!(ready.status, StatusCode::OK);
}

async fn status(cluster: &Cluster, path: &str) -> StatusCode {
    cluster.client.get(&cluster.nodes[0].url(path), &[("connection", "close")]).await.unwrap().status
}

/// Two places, and a budget.
fn places_and_budget(backend: &Backend, budget: usize) -> String {
    format!(
        "\
version: 1
limits:
  - {{name: places, concurrency: 2}}
  - {{name: total, budget: {{count: {budget}, per: total}}}}
upstreams:
  - {{name: echo, endpoints: [{{url: \"http://{}\"}}]}}
routes:
  - {{name: held, match: {{path: /held/*}}, to: [{{upstream: echo}}], limits: [places]}}
  - {{name: paid, match: {{path: /paid/*}}, to: [{{upstream: echo}}], limits: [total]}}
",
        backend.address
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_open_keeps_its_place_until_it_ends_and_a_budget_is_spent_to_the_last() {
    const BUDGET: usize = 600;
    const PARTS: u64 = 80;
    let (backend, mut cluster) = (Backend::start().await, Cluster::start(1).await);
    cluster.apply(&places_and_budget(&backend, BUDGET)).await;
    let client = Client::new();
    let open = async || {
        let url = cluster.nodes[0].url(&format!("/held/stream?parts={PARTS}&pause_ms=100"));
        client.open(Method::GET, &url, &[], Bytes::new()).await.unwrap()
    };
    let (mut paid, mut said) = (0, BTreeMap::<u16, usize>::new());
    while paid < 100 {
        let answer = status(&cluster, "/paid/x").await;
        *said.entry(answer.as_u16()).or_default() += 1;
        if answer == StatusCode::OK {
            paid += 1;
        } else {
            assert_eq!(answer, StatusCode::SERVICE_UNAVAILABLE, "nobody leads yet where the disk is slow");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let (first, second) = (open().await, open().await);
    assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::OK));
    let read = Arc::new(AtomicU64::new(0));
    let bodies = [first, second].map(|answer| {
        let read = Arc::clone(&read);
        tokio::spawn(async move {
            let (mut body, mut last) = (answer.into_body(), Bytes::new());
            while let Some(part) = body.frame().await {
                last = part.expect("it is not cut").into_data().unwrap();
                // Some may come as one.
                read.fetch_add(last.iter().filter(|byte| **byte == b'\n').count() as u64, Ordering::Relaxed);
            }
            last
        })
    });
    let former = cluster.nodes[0].take_over(&[]);
    cluster.nodes[0].wait_until_ready().await;
    // For longer than a lease of places lasts: the old process renews its own by the new one.
    loop {
        let answer = status(&cluster, "/held/x").await;
        if read.load(Ordering::Relaxed) > 2 * (PARTS - 15) {
            break;
        }
        assert_eq!(answer, StatusCode::TOO_MANY_REQUESTS, "both places are taken");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for body in bodies {
        assert!(body.await.unwrap().ends_with(format!("part {}\n", PARTS - 1).as_bytes()));
    }
    assert_eq!(end_of(former).await, Some(0), "{}", cluster.nodes[0].log());
    eventually("the places are free", Duration::from_secs(20), async || {
        status(&cluster, "/held/x").await == StatusCode::OK
    })
    .await;
    // What the old process held of the budget comes back, too.
    let mut refused = 0;
    while refused < 60 {
        let answer = status(&cluster, "/paid/x").await;
        *said.entry(answer.as_u16()).or_default() += 1;
        if answer == StatusCode::OK {
            (paid, refused) = (paid + 1, 0);
        } else {
            refused += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let verdict = cluster.verify(&backend.seen()).await;
    assert_eq!(paid, BUDGET, "no more, and no less: answers {said:?}, of {} at the backend: {verdict}", backend.hits());
    assert!(verdict["worst_window_ratio"].as_f64().unwrap() <= 1.0, "{verdict}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_told_to_end_while_it_hands_over_does_not_take_its_node_back() {
    let (backend, mut cluster) = (Backend::start().await, Cluster::start(1).await);
    cluster.apply(&document(&backend, 1_000_000, "1h")).await;
    let former = cluster.nodes[0].take_over(&["--stall"]);
    eventually("the folder is handed over", Duration::from_secs(30), async || {
        cluster.nodes[0].log().contains("handing over")
    })
    .await;
    // As systemd tells all processes of a unit; the one that has the folder dies of something else.
    signal(former.id().unwrap(), "TERM");
    cluster.nodes[0].kill().await;
    assert_eq!(end_of(former).await, Some(0), "{}", cluster.nodes[0].log());
    assert!(cluster.nodes[0].log().contains("is to end as well"), "{}", cluster.nodes[0].log());
}

/// Or the one before could not go on with what was written meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_may_not_serve_in_the_end_says_no_higher_level_than_the_one_before() {
    let mut cluster = Cluster::start_with(3, &["--feature-level", "3"]).await;
    for node in &mut cluster.nodes[1..] {
        node.restart(&[]).await;
    }
    let seen = async |cluster: &Cluster| {
        let status = cluster.cli_at(1, &["cluster", "status"]).await.expect("a status");
        let first = status["nodes"].as_array().unwrap().iter().find(|node| node["id"] == 1).unwrap();
        (levels_in(&status), first["live"].as_bool().unwrap())
    };
    eventually("two are upgraded", Duration::from_secs(10), async || seen(&cluster).await.0 == [3, 4, 4]).await;
    cluster.nodes[0].extra.clear();
    let former = cluster.nodes[0].take_over(&["--stall"]);
    eventually("the folder is handed over", Duration::from_secs(30), async || {
        cluster.nodes[0].log().contains("handing over")
    })
    .await;
    // Long enough for the lease of the one before to end: it is the other one that is live.
    let ends = Instant::now() + Duration::from_secs(6);
    while Instant::now() < ends {
        assert_eq!(seen(&cluster).await.0, [3, 4, 4]);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(seen(&cluster).await.1);
    cluster.nodes[0].kill().await;
    cluster.nodes[0].goes_on(former);
    cluster.nodes[0].wait_until_ready().await;
    assert_eq!(seen(&cluster).await.0, [3, 4, 4]);
    let former = cluster.nodes[0].take_over(&[]);
    cluster.nodes[0].wait_until_ready().await;
    assert_eq!(end_of(former).await, Some(0), "{}", cluster.nodes[0].log());
    eventually("it says its own level", Duration::from_secs(10), async || seen(&cluster).await.0 == [4, 4, 4]).await;
}
