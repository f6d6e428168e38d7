//! Certificates in the state: who may change them, what is bounded, and that nothing secret is printed.

#![allow(clippy::unwrap_used)]

use tidegate_model::{Millis, Revision};
use tidegate_state::certificates::{Issued, Source, Step};
use tidegate_state::{Change, Command, Outcome, Proposal, RequestId, State};

struct Log(State, u128);

impl Log {
    fn apply(&mut self, command: Command) -> (Outcome, Vec<Change>) {
        self.1 += 1;
        self.0.apply(0, &Proposal { request: RequestId(self.1), at: Millis(5), command, by: None })
    }
}

fn issued(chain: &str) -> Issued {
    Issued { chain: chain.into(), sealed_key: b"SEALED".to_vec() }
}

fn step(replaces: u64, issued: Option<Issued>) -> Command {
    let (sealed, error) = (b"SEALED".to_vec(), String::new());
    Command::StepOrder(Step { name: "site".into(), replaces, sealed, failures: 0, error, next_at: Millis(9), issued })
}

#[test]
fn of_two_who_drive_an_order_only_one_goes_on() {
    let mut log = Log(State::default(), 0);
    let (Outcome::Stepped { version: first }, _) = log.apply(step(0, None)) else { panic!("the first step") };
    assert_eq!(log.apply(step(0, None)), (Outcome::Conflict { current: Revision(first) }, vec![]));
    let (Outcome::Stepped { version: second }, changes) = log.apply(step(first, None)) else { panic!("the second") };
    assert_eq!(changes, [Change::Certificates]);
    assert_eq!(log.apply(step(first, Some(issued("late")))).0, Outcome::Conflict { current: Revision(second) });
    assert!(log.0.certificates.by_name("site").is_none(), "what comes too late issues nothing");
    assert!(matches!(log.apply(step(second, Some(issued("good")))).0, Outcome::Stepped { .. }));
    let stored = log.0.certificates.by_name("site").unwrap();
    assert_eq!((stored.chain.as_str(), stored.source), ("good", Source::Acme));
}

#[test]
fn an_account_is_kept_by_whoever_knows_the_one_before() {
    let mut log = Log(State::default(), 0);
    let keep = |replaces, sealed: &[u8]| Command::KeepAccount {
        directory: "https://ca.test/dir".into(),
        replaces,
        sealed: sealed.to_vec(),
    };
    let (Outcome::Stepped { version }, _) = log.apply(keep(0, b"one")) else { panic!("the first") };
    assert_eq!(log.apply(keep(0, b"two")).0, Outcome::Conflict { current: Revision(version) });
    assert!(matches!(log.apply(keep(version, b"three")).0, Outcome::Stepped { .. }));
    assert_eq!(log.0.certificates.account("https://ca.test/dir").unwrap().0, b"three");
}

#[test]
fn imported_certificates_are_replaced_removed_and_bounded() {
    let mut log = Log(State::default(), 0);
    let import = |name: &str, chain: &str| Command::ImportCertificate { name: name.into(), issued: issued(chain) };
    assert_eq!(log.apply(import("api", "one")), (Outcome::Done, vec![Change::Certificates]));
    let before = log.0.certificates.by_name("api").unwrap().version;
    assert_eq!(log.apply(import("api", "two")).0, Outcome::Done);
    assert!(before < log.0.certificates.by_name("api").unwrap().version);
    assert!(matches!(log.apply(import("big", &"x".repeat(300 << 10))).0, Outcome::TooLarge { .. }));
    assert!(matches!(log.apply(import("", "x")).0, Outcome::TooLarge { .. }));
    let remove = || Command::RemoveCertificate { name: "api".into() };
    assert_eq!(log.apply(remove()), (Outcome::Done, vec![Change::Certificates]));
    assert_eq!(log.apply(remove()), (Outcome::NotFound, vec![]));
}

#[test]
fn what_is_sealed_is_not_printed_either() {
    let mut log = Log(State::default(), 0);
    log.apply(Command::ImportCertificate { name: "api".into(), issued: issued("chain") });
    log.apply(step(0, None));
    let said = format!("{:?} {:?}", log.0, log.0.certificates.by_name("api").unwrap());
    let secret = format!("{:?}", b"SEALED");
    assert!(said.contains("api") && !said.contains(secret.trim_matches(['[', ']'])), "{said}");
}
