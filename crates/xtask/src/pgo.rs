//! `cargo xtask pgo`: the program built twice. The first build counts what is called while the load test runs; the second lays
//! out what was called often together, and inlines it (docs/decisions/0017-trained-builds.md).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::build;
use crate::prerequisites::{C_COMPILER, Consent, H2LOAD, NGINX, WRK, ensure};
use crate::run::{Result, Stopped, cargo, find_program, run, say, target};

/// What published tables are measured with.
const PROFILE: &str = "bench-fat";
/// Who calls what: requests and chats, each as little and as much as is done with them, over every wire.
const LESSONS: [&[&str]; 3] = [
    &["llm", "--quick", "--chats", "--only", "tidegate"],
    &["llm", "--quick", "--only", "passing on+translating"],
    &["speed", "--quick", "--only", "h1+64k+h2+tls+h2-tls+tls-new+policy+tidegate"],
];

/// Builds both; says where the program is.
pub(crate) fn build(consent: Consent) -> Result {
    ensure(&[C_COMPILER, NGINX, WRK, H2LOAD], consent)?;
    let merge = merger()?;
    let folder = folder()?;
    let (raw, merged) = (folder.join("raw"), folder.join("merged.profdata"));
    // Of another state of the sources it would only be noise.
    let _ = fs::remove_dir_all(&raw);
    fs::create_dir_all(&raw).map_err(|why| Stopped(format!("{}: {why}", raw.display())))?;

    let harness = build::harness_alone(PROFILE)?;
    let learner = program(&folder, &format!("-Cprofile-generate={}", raw.display()))?;
    for lesson in LESSONS {
        let mut call = build::call(harness.clone(), lesson);
        call.arg("--tidegate").arg(&learner).arg("--results").arg(&folder);
        // A file for each node; the harness waits until it is written.
        run(call.env("LLVM_PROFILE_FILE", raw.join("%p.profraw")))?;
    }
    let taken = fs::read_dir(&raw).map_or(0, Iterator::count);
    if taken == 0 {
        return Err(Stopped(format!("no profile was written to {}: were the nodes killed?", raw.display())));
    }
    run(Command::new(merge).arg("merge").arg("-o").arg(&merged).arg(&raw))?;
    let trained = program(&folder, &format!("-Cprofile-use={}", merged.display()))?;
    say(&format!("{}: laid out by {taken} profiles", trained.display()));
    Ok(())
}

/// What was built last.
pub(crate) fn trained() -> Result<PathBuf> {
    let program = place(&folder()?, &told_by_rustc("host: ")?);
    if program.is_file() { Ok(program) } else { Err(Stopped("nothing is trained yet: `cargo xtask pgo`".to_owned())) }
}

fn folder() -> Result<PathBuf> {
    std::path::absolute(target().join("pgo")).map_err(|why| Stopped(why.to_string()))
}

fn place(folder: &Path, triple: &str) -> PathBuf {
    folder.join(triple).join(PROFILE).join("tidegate")
}

/// Both builds have the same folder, profile and triple: by these cargo names what they are made of. With `--target` the
/// flags are not for build scripts.
fn program(folder: &Path, flags: &str) -> Result<PathBuf> {
    let triple = told_by_rustc("host: ")?;
    let mut build = cargo();
    build.args(["build", "--locked", "--profile", PROFILE, "--package", "tidegate"]);
    run(build.args(["--target", &triple]).env("RUSTFLAGS", flags).env("CARGO_TARGET_DIR", folder))?;
    Ok(place(folder, &triple))
}

/// It has to be of rustc's own LLVM: profiles have a version.
fn merger() -> Result<PathBuf> {
    let major = told_by_rustc("LLVM version: ")?;
    let major = major.split('.').next().unwrap_or_default().to_owned();
    let of_toolchain = rustc(&["--print", "target-libdir"])?.trim().to_owned();
    let of_toolchain = Path::new(&of_toolchain).with_file_name("bin").join("llvm-profdata");
    if of_toolchain.exists() {
        return Ok(of_toolchain);
    }
    find_program(&format!("llvm-profdata-{major}")).ok_or_else(|| {
        Stopped(format!(
            "llvm-profdata {major} is needed to merge profiles: `rustup component add llvm-tools`, or Debian's package llvm-{major}"
        ))
    })
}

fn told_by_rustc(field: &str) -> Result<String> {
    let told = rustc(&["-vV"])?;
    let line = told.lines().find_map(|line| line.strip_prefix(field));
    line.map(str::to_owned).ok_or_else(|| Stopped(format!("`rustc -vV` does not say {field:?}")))
}

fn rustc(arguments: &[&str]) -> Result<String> {
    let told =
        Command::new("rustc").args(arguments).output().map_err(|why| Stopped(format!("cannot run rustc: {why}")))?;
    Ok(String::from_utf8_lossy(&told.stdout).into_owned())
}
