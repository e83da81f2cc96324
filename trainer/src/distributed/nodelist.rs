//! Host names in SLURM's short form: `gpu[01-03,7],login` is gpu01, gpu02, gpu03, gpu7, login.

/// The first host of a list, or `None` if the list makes no sense.
///
/// Only the first is ever needed: it is where the ranks meet.
pub(super) fn first_host(list: &str) -> Option<String> {
    let mut name = String::new();
    let mut rest = list.trim();
    loop {
        let end = rest.find(['[', ',']).unwrap_or(rest.len());
        name.push_str(&rest[..end]);
        rest = &rest[end..];
        if !rest.starts_with('[') {
            break;
        }
        // Several brackets in one name stand for all combinations; the first has the first number of each.
        let close = rest.find(']')?;
        name.push_str(first_number(&rest[1..close])?);
        rest = &rest[close + 1..];
    }
    is_host(&name).then_some(name)
}

/// The first of `01-03,7`, with its leading zeros.
fn first_number(ranges: &str) -> Option<&str> {
    let first = ranges.split(',').next()?;
    let start = first.split('-').next()?;
    (!start.is_empty() && start.bytes().all(|b| b.is_ascii_digit())).then_some(start)
}

fn is_host(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_host_of_what_slurm_writes() {
        for (list, host) in [
            ("localhost", "localhost"),
            ("gpu-a,gpu-b", "gpu-a"),
            ("gpu[01-03,7],login", "gpu01"),
            ("gpu[007]", "gpu007"),
            ("rack[2-3]-node[10,12]", "rack2-node10"),
            ("n[1-2].cluster.example", "n1.cluster.example"),
            ("tux3,tux[1-2]", "tux3"),
            (" node-0[5-9] ", "node-05"),
        ] {
            assert_eq!(first_host(list).as_deref(), Some(host), "{list}");
        }
    }

    #[test]
    fn lists_without_sense_have_no_first_host() {
        for list in ["", "gpu[", "gpu[]", "gpu[a-b]", ",gpu", "a b", "gpu[-3]", "(null)"] {
            assert_eq!(first_host(list), None, "{list}");
        }
    }
}
