//! What can be said on the command line; and the page that says so.

use clap::{CommandFactory, Parser};

use super::{Cli, Command, Output, document, exit, key, print, sources};

fn parse(words: &str) -> Cli {
    Cli::try_parse_from(words.split(' ')).unwrap_or_else(|error| panic!("{words}: {error}"))
}

#[test]
fn the_command_line_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn words_that_cannot_be_understood_are_told_in_one_line_and_who_wants_json_is_known() {
    let wrong = |words: &str| super::of_clap(&Cli::try_parse_from(words.split(' ')).unwrap_err());
    assert_eq!(wrong("tidegate bogus"), "unrecognized subcommand 'bogus'");
    assert_eq!(wrong("tidegate quota top month"), "unexpected argument 'month' found");
    assert!(wrong("tidegate token create x --role boss").ends_with("[possible values: reader, operator, admin]"));
    let wants = |words: &str| super::is_a_program(&words.split(' ').map(Into::into).collect::<Vec<_>>());
    for words in ["t -o json bogus", "t bogus --output json", "t bogus -ojson", "t --output=json"] {
        assert!(wants(words), "{words}");
    }
    for words in ["t bogus", "t -o table json", "t json -o"] {
        assert!(!wants(words), "{words}");
    }
}

#[test]
fn every_verb_of_the_contract_is_understood() {
    for words in [
        "tidegate serve",
        "tidegate dev",
        "tidegate check a.yaml conf.d",
        "tidegate diff a.yaml",
        "tidegate apply a.yaml",
        "tidegate apply --wait --timeout 5s a.yaml --note why --replaces 3",
        "tidegate get",
        "tidegate get -o json --revision 3",
        "tidegate get -o yaml",
        "tidegate history -o json",
        "tidegate rollback 3 --wait",
        "tidegate schema",
        "tidegate cluster status",
        "tidegate cluster status --watch --interval 500ms",
        "tidegate cluster token --ttl 10m --uses 3",
        "tidegate cluster add",
        "tidegate cluster remove 4",
        "tidegate cluster transfer",
        "tidegate cluster transfer 2",
        "tidegate cache purge https://example.com/a?b --tenant t",
        "tidegate cache purge --prefix example.com/a/ --tag users --tag x",
        "tidegate cache purge --all -o json",
        "tidegate cache stats",
        "tidegate cache get example.com/a",
        "tidegate key create acme --name laptop --ttl 30d --tenant t",
        "tidegate key create acme --plan gold",
        "tidegate key plan 7 gold",
        "tidegate key plan 7",
        "tidegate key ls",
        "tidegate key ls acme",
        "tidegate key revoke 7",
        "tidegate key rotate 7 --grace 1h",
        "tidegate cert ls -o json",
        "tidegate cert import api --cert chain.pem --key key.pem",
        "tidegate cert rm api",
        "tidegate cert renew site",
        "tidegate token create ci --role operator",
        "tidegate token ls",
        "tidegate token revoke 2",
        "tidegate usage --by day,model --since 7d --until 2026-11-20 --consumer acme -o csv",
        "tidegate catalogue ls gpt --provider openai -o json",
        "tidegate quota verify a b",
        "tidegate quota get per-key --key 7 --stale",
        "tidegate quota get x --consumer acme --tenant t --header x-a=b=c --header x-b= --ip 10.0.0.1 --route r",
        "tidegate quota top --by refused -n 5 --limit per-key --watch --interval 2s",
        "tidegate quota ls --history",
        "tidegate quota set per-key --max 5 --for 2h --reason launch",
        "tidegate quota set per-key --key 7 --max 5 --until 2030-01-01T00:00:00Z",
        "tidegate quota set per-key --key 7 --rate 20/s --burst 40",
        "tidegate quota set per-key --rate 600/m",
        "tidegate quota set per-key --burst 40",
        "tidegate quota unset per-key --key 7",
        "tidegate quota grant per-key 100 --key 7 --for 1h",
        "tidegate quota reset per-key",
        "tidegate quota block --consumer acme --for 1h",
        "tidegate quota block per-ip --ip 10.0.0.1",
        "tidegate quota unblock --key 7",
        "tidegate --admin http://10.0.0.1:7080 --token x history",
        "tidegate history --admin 10.0.0.1:7080 --token x",
    ] {
        parse(words);
    }
}

#[test]
fn what_nobody_means_is_wrong_usage() {
    for words in [
        "tidegate",
        "tidegate apply",
        "tidegate apply a.yaml --timeout 5s",
        "tidegate rollback",
        "tidegate rollback x",
        "tidegate cache purge",
        "tidegate cache purge --tenant t",
        "tidegate cache get",
        "tidegate key create",
        "tidegate key create acme --ttl soon",
        "tidegate cert import api",
        "tidegate cert rm",
        "tidegate token create ci",
        "tidegate token create ci --role root",
        "tidegate cluster remove",
        "tidegate quota verify",
        "tidegate quota get",
        "tidegate quota set per-key",
        "tidegate quota set per-key --max 5 --rate 5/s",
        "tidegate quota set per-key --max 5 --burst 5",
        "tidegate quota set per-key --rate fast",
        "tidegate quota set per-key --max 5 --for 1h --until 2030-01-01T00:00:00Z",
        "tidegate quota grant per-key",
        "tidegate quota get x --header y",
        "tidegate history -o xml",
        "tidegate frobnicate",
    ] {
        let error = Cli::try_parse_from(words.split(' ')).expect_err(words);
        assert_eq!(error.exit_code(), exit::Exit::Usage as i32, "{words}");
    }
}

#[test]
fn a_token_is_not_printed() {
    let cli = parse("tidegate history --token tga_secret");
    assert!(!format!("{cli:?}").contains("tga_secret"));
    assert_eq!(cli.global.token.map(|token| token.0).as_deref(), Some("tga_secret"));
}

#[test]
fn a_rotated_key_has_a_day_of_grace_and_output_is_for_people_unless_said_otherwise() {
    let cli = parse("tidegate key rotate 7");
    assert_eq!(cli.global.output, Output::Table);
    let Command::Key(key::Verb::Rotate { id: 7, grace }) = cli.command else { panic!("another verb") };
    assert_eq!(grace.as_secs(), 86_400);
}

#[test]
fn problems_are_told_with_file_and_line_for_every_file_of_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("a.yaml", "version: 1\nupstreams: [{name: users, endpoints: [{url: 'http://127.0.0.1:9001'}]}]\n");
    write("b.yaml", "routes:\n  - name: users\n    match: {path: /users}\n    to: [{upstream: nobody}]\n");
    write("c.json", "{\"typo\": 1}");
    write(".hidden.yaml", "not: ours");
    write("notes.txt", "nor this");
    let sources = sources::read(&[folder.path().to_owned()]).unwrap_or_else(|error| panic!("{error:?}"));
    let told: Vec<String> = sources::check(&sources).iter().map(|problem| print::worded(problem, false)).collect();
    let at = |file: &str, line: u32| format!("{}:{line}: ", folder.path().join(file).display());
    assert!(
        told.iter().any(|text| text.starts_with(&at("b.yaml", 4)) && text.contains("routes[0].to[0].upstream")),
        "{told:?}"
    );
    assert!(told.iter().any(|text| text.starts_with(&at("c.json", 1)) && text.contains("typo")), "{told:?}");
}

#[test]
fn a_folder_becomes_one_document_and_one_file_keeps_its_comments() {
    let folder = tempfile::tempdir().unwrap();
    let one = folder.path().join("a.yaml");
    std::fs::write(&one, "version: 1 # mine\nconsumers: [{name: acme}]\n").unwrap();
    let text = |path: &std::path::Path| document_text(&[path.to_owned()]);
    assert!(text(&one).contains("# mine"));
    std::fs::write(folder.path().join("b.yaml"), "consumers: [{name: other}]\n").unwrap();
    let merged = text(folder.path());
    assert!(merged.contains("acme") && merged.contains("other"), "{merged}");
    let json: serde_json::Value = serde_json::from_str(&sources::as_json(&merged).unwrap_or_default()).unwrap();
    assert_eq!(json["consumers"].as_array().unwrap().len(), 2);
}

fn document_text(paths: &[std::path::PathBuf]) -> String {
    sources::Document::load(paths).unwrap_or_else(|error| panic!("{error:?}")).text
}

#[test]
fn no_control_character_of_a_name_reaches_the_terminal() {
    let table = print::rendered(&["name"], vec![vec!["a\u{1b}[31mb".to_owned()]]);
    assert!(!table.contains('\u{1b}'), "{table:?}");
}

#[test]
fn the_page_of_the_command_line_is_current() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
    let wanted = reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(page, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(page).unwrap_or_default();
    assert_eq!(found, wanted, "run `UPDATE_DOCS=1 cargo nextest run -p tidegate the_page_of_the_command_line`");
}

fn reference() -> String {
    let mut page = String::from(
        "# The command line\n\nGenerated from the program: `UPDATE_DOCS=1 cargo nextest run -p tidegate the_page_of_the_command_line`.\n\n\
         Tables are for people; `-o json` is for programs, errors included (in the shape of the admin API, on standard\n\
         output). Secrets are printed alone on standard output, so that `KEY=$(tidegate key create acme)` works.\n",
    );
    let mut root = Cli::command().term_width(0);
    root.build();
    page.push_str(&format!("\n## Exit codes\n\n```text\n{}\n```\n", exit::HELP));
    page.push_str("\n`serve` ends with 0 after a drain and with 1 when it cannot start or fails.\n");
    section(&mut page, &root, "tidegate");
    page
}

fn section(page: &mut String, command: &clap::Command, path: &str) {
    let root = path == "tidegate";
    // Values of this machine are no documentation; what holds for all verbs is said once.
    let plain = |arg: clap::Arg| {
        let hidden = arg.is_global_set() && !root;
        arg.hide_env_values(true).hide(hidden)
    };
    let mut shown = command.clone().after_help("").disable_version_flag(true).mut_args(plain);
    let help = shown.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    page.push_str(&format!("\n## `{path}`\n\n```text\n{}\n```\n", help.join("\n").trim_end()));
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set()) {
        section(page, sub, &format!("{path} {}", sub.get_name()));
    }
}

#[test]
fn a_document_verb_takes_standard_input() {
    let Command::Check(document::Check { .. }) = parse("tidegate check -").command else { panic!("another verb") };
}
