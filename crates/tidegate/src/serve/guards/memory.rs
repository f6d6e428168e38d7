//! How much memory this process may use and does: by its cgroup (version 2 or 1), by the machine, by what it was told.

use std::fs;
use std::path::{Path, PathBuf};

/// Above this a limit of version 1 means none.
const NO_LIMIT: u64 = 1 << 60;

#[derive(Debug)]
pub(super) struct Meter {
    /// What it was told, or what the machine has.
    own: Option<u64>,
    /// Its own group and those around it, as far as they have limits: the kernel kills at whichever is reached first.
    groups: Vec<Group>,
}

/// A cgroup that bounds this process.
#[derive(Debug)]
struct Group {
    limit: PathBuf,
    used: PathBuf,
    stat: PathBuf,
    /// The line of `stat` that says how much is cache that can be dropped.
    cache: &'static str,
}

impl Meter {
    /// `told`: what the node may use at most. `None`: there is no /proc.
    pub(super) fn find(told: Option<u64>) -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").map(|text| groups(Path::new("/sys/fs/cgroup"), &text));
        let meter = Self { own: least(told, machine()), groups: groups.unwrap_or_default() };
        meter.read().is_some().then_some(meter)
    }

    /// Used, and how much may be: of all bounds the one that is nearest.
    pub(super) fn read(&self) -> Option<(u64, u64)> {
        let own = self.own.and_then(|bound| Some((resident()?, bound)));
        self.groups.iter().filter_map(Group::read).chain(own).max_by_key(|bound| share(*bound))
    }
}

fn share((used, bound): (u64, u64)) -> u64 {
    used.saturating_mul(10_000) / bound.max(1)
}

fn least(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

impl Group {
    fn read(&self) -> Option<(u64, u64)> {
        let limit = number(&self.limit)?;
        let cache = fs::read_to_string(&self.stat).ok().and_then(|stat| of_stat(&stat, self.cache)).unwrap_or(0);
        Some((number(&self.used)?.saturating_sub(cache), limit))
    }
}

fn of_stat(stat: &str, name: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// `max` is no number.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok().filter(|limit| *limit < NO_LIMIT)
}

/// The group that `/proc/self/cgroup` names and all above it, without those that have no memory controller. One without a limit
/// may be given one later.
fn groups(mounted: &Path, text: &str) -> Vec<Group> {
    let Some((kind, path)) = own_group(text) else { return Vec::new() };
    let (root, limit, used, cache) = match kind {
        Kind::Two => (mounted.to_owned(), "memory.max", "memory.current", "inactive_file "),
        Kind::One => (mounted.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "),
    };
    // Within a container the path may be the host's: the root is the container's own group then.
    let own = root.join(path.trim_start_matches('/'));
    let around = own.ancestors().take_while(|at| at.starts_with(&root));
    let of = |at: &Path| Group { limit: at.join(limit), used: at.join(used), stat: at.join("memory.stat"), cache };
    around.map(of).filter(|group| group.limit.exists() && group.used.exists()).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Two,
    One,
}

fn own_group(text: &str) -> Option<(Kind, &str)> {
    let of = |line: &'_ str| -> Option<(Kind, usize)> {
        let mut parts = line.splitn(3, ':');
        let (_number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let at = line.len() - path.len();
        match controllers {
            "" => Some((Kind::Two, at)),
            list if list.split(',').any(|one| one == "memory") => Some((Kind::One, at)),
            _ => None,
        }
    };
    let all = || text.lines().filter_map(|line| of(line).map(|(kind, at)| (kind, &line[at..])));
    // On mixed systems memory is the controller of version 1, if that names it.
    all().find(|(kind, _)| *kind == Kind::One).or_else(|| all().next())
}

fn machine() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}

fn resident() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * crate::process::page_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_in_both_versions() {
        assert_eq!(
            own_group("0::/system.slice/tidegate.service\n"),
            Some((Kind::Two, "/system.slice/tidegate.service"))
        );
        let mixed = "12:cpu,cpuacct:/a\n3:memory:/docker/x\n0::/b\n";
        assert_eq!(own_group(mixed), Some((Kind::One, "/docker/x")));
        assert_eq!(own_group("5:cpu:/a\n"), None);
    }

    /// A tree of groups: path, limit, used, cache that can be dropped.
    fn tree(kind: Kind, groups: &[(&str, &str, u64, u64)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, limit, used, cache) in groups {
            let at = folder.path().join(path);
            fs::create_dir_all(&at).unwrap();
            let (limits, uses, line) = match kind {
                Kind::Two => ("memory.max", "memory.current", "inactive_file"),
                Kind::One => ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
            };
            fs::write(at.join(limits), format!("{limit}\n")).unwrap();
            fs::write(at.join(uses), format!("{used}\n")).unwrap();
            fs::write(at.join("memory.stat"), format!("anon 1\n{line} {cache}\n")).unwrap();
        }
        folder
    }

    fn nearest(folder: &tempfile::TempDir, text: &str) -> Option<(u64, u64)> {
        Meter { own: None, groups: groups(folder.path(), text) }.read()
    }

    #[test]
    fn of_nested_groups_the_one_that_is_nearest_to_its_limit_counts() {
        let pod = "kubepods.slice/pod1.slice";
        let inner = format!("{pod}/cri-1.scope");
        let text = format!("0::/{inner}\n");
        let two = |own: &str, around: &str| {
            let groups = [("kubepods.slice", "max", 900, 0), (pod, around, 700, 100), (&*inner, own, 500, 50)];
            nearest(&tree(Kind::Two, &groups), &text)
        };
        assert_eq!(two("1000", "max"), Some((450, 1000)), "its own");
        assert_eq!(two("max", "800"), Some((600, 800)), "that around it");
        assert_eq!(two("1000", "800"), Some((600, 800)), "that around it is tighter");
        assert_eq!(two("460", "800"), Some((450, 460)), "its own is tighter");
        assert_eq!(two("max", "max"), None);
    }

    #[test]
    fn groups_of_version_1_and_those_of_a_container() {
        let none = u64::MAX.to_string();
        let groups = [
            ("memory", &*none, 9_000, 0),
            ("memory/docker", "2000", 1_900, 1_800),
            ("memory/docker/x", "1000", 600, 0),
        ];
        let folder = tree(Kind::One, &groups);
        assert_eq!(nearest(&folder, "3:cpu:/a\n4:memory:/docker/x\n0::/\n"), Some((600, 1000)));
        // The path is the host's, and what is mounted is the container's own group.
        let folder = tree(Kind::One, &[("memory", "1000", 300, 100)]);
        assert_eq!(nearest(&folder, "4:memory:/docker/0123\n"), Some((200, 1000)));
        let folder = tree(Kind::Two, &[("", "1000", 300, 100)]);
        assert_eq!(nearest(&folder, "0::/../../docker/0123\n"), Some((200, 1000)));
    }

    #[test]
    fn what_is_measured_is_sane() {
        let (used, bound) = Meter::find(Some(1 << 50)).and_then(|meter| meter.read()).expect("there is a /proc");
        assert!(used > 100_000 && bound > used, "{used} of {bound}");
        let told = Meter { own: Some(1), groups: Vec::new() };
        assert!(told.read().is_some_and(|(used, bound)| used > bound));
        assert_eq!(of_stat("anon 5\ninactive_file 70\n", "inactive_file "), Some(70));
    }
}
