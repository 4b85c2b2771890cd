//! How many data threads `auto` means: the CPU limit of this cgroup, rounded up.

use std::fs::read_to_string;
use std::path::Path;

/// From cgroup v2, else v1, both below `root` (`/sys/fs/cgroup`), else what the system offers.
pub(super) fn auto(root: &Path, available: usize) -> usize {
    match limit(root) {
        // More than there are: the limit is no limit here.
        Some((quota, period)) if quota / period > available as u64 => available,
        Some((quota, period)) => usize::try_from(quota.div_ceil(period)).unwrap_or(available),
        None => available,
    }
    .max(1)
}

/// CPU time within a period of time, both in microseconds.
fn limit(root: &Path) -> Option<(u64, u64)> {
    if let Ok(text) = read_to_string(root.join("cpu.max")) {
        let (quota, period) = text.trim().split_once(' ')?;
        return pair(quota, period);
    }
    ["cpu", "cpu,cpuacct"].iter().find_map(|controller| {
        let read = |name| read_to_string(root.join(controller).join(name)).ok();
        // A quota of -1 is none, and does not parse.
        pair(&read("cpu.cfs_quota_us")?, &read("cpu.cfs_period_us")?)
    })
}

fn pair(quota: &str, period: &str) -> Option<(u64, u64)> {
    let quota = quota.trim().parse().ok().filter(|quota| *quota > 0)?;
    let period = period.trim().parse().ok().filter(|period| *period > 0)?;
    Some((quota, period))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_the_limit_rounded_up() {
        let table = [
            ("cpu.max", "max 100000", 4),
            ("cpu.max", "50000 100000", 1),
            ("cpu.max", "100000 100000", 1),
            ("cpu.max", "150000 100000\n", 2),
            ("cpu.max", "350000 100000", 4),
            ("cpu.max", "9000000 100000", 4),
            ("cpu.max", "nonsense", 4),
            ("cpu.max", "0 0", 4),
        ];
        for (file, text, threads) in table {
            let root = tempfile::tempdir().expect("a folder");
            std::fs::write(root.path().join(file), text).expect("a file");
            assert_eq!(auto(root.path(), 4), threads, "{text:?}");
        }
    }

    #[test]
    fn the_older_cgroups_are_read_too() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("cpu,cpuacct");
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::write(folder.join("cpu.cfs_period_us"), "100000\n").expect("a file");
        std::fs::write(folder.join("cpu.cfs_quota_us"), "-1\n").expect("a file");
        assert_eq!(auto(root.path(), 8), 8);
        std::fs::write(folder.join("cpu.cfs_quota_us"), "250000\n").expect("a file");
        assert_eq!(auto(root.path(), 8), 3);
    }

    #[test]
    fn without_a_limit_it_is_what_there_is() {
        let root = tempfile::tempdir().expect("a folder");
        assert_eq!(auto(root.path(), 3), 3);
        assert_eq!(auto(root.path(), 0), 1);
    }
}
