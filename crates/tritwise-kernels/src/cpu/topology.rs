//! How many physical cores there are, which the standard library does not say.

/// Physical cores, where the system tells.
#[cfg(target_os = "linux")]
pub(super) fn physical_cores() -> Option<usize> {
    let mut lists = Vec::new();
    for entry in std::fs::read_dir("/sys/devices/system/cpu").ok()? {
        let entry = entry.ok()?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("cpu"));
        if number.is_some_and(|number| number.parse::<u32>().is_ok()) {
            // A CPU that is offline has no such file.
            lists.extend(std::fs::read_to_string(entry.path().join("topology/thread_siblings_list")));
        }
    }
    let cores = count_cores(lists);
    (cores > 0).then_some(cores)
}

/// Physical cores, where the system tells.
#[cfg(not(target_os = "linux"))]
pub(super) fn physical_cores() -> Option<usize> {
    None
}

/// Cores behind the sibling lists of all logical CPUs: siblings have the same list.
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only Linux has the lists"))]
fn count_cores(mut lists: Vec<String>) -> usize {
    lists.sort_unstable();
    lists.dedup();
    lists.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings_count_once() {
        let lists = ["0,4", "1,5", "2-3", "2-3", "0,4", "1,5"].map(String::from);
        assert_eq!(count_cores(lists.to_vec()), 3);
        assert_eq!(count_cores(Vec::new()), 0);
    }
}
