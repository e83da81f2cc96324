//! On what a run worked, session by session, as `metrics.jsonl` tells.

use serde::Serialize;
use serde_json::Value;

/// A stretch of a run between a start and the next.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Session {
    /// Minutes of the run before it.
    pub minutes: f64,
    /// `cpu` or `cuda`.
    pub device: String,
    /// Processes at work together; on GPUs each has one.
    pub ranks: u32,
    /// Machines that they were on.
    pub machines: u32,
    /// Threads of each.
    pub threads: u32,
}

impl Session {
    /// The session that a line of kind `session` begins; `None` for a line without its numbers.
    pub fn of(line: &Value) -> Option<Self> {
        let count =
            |key: &str| line.get(key)?.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
        Some(Self {
            minutes: line.get("minutes")?.as_f64().filter(|m| *m >= 0.0)?,
            device: line.get("device")?.as_str()?.into(),
            ranks: count("ranks")?,
            machines: count("machines")?,
            threads: count("threads").unwrap_or(1),
        })
    }

    /// Devices whose power counts: GPUs by rank, processors by machine, however many ranks share them.
    pub fn devices(&self) -> u32 {
        if self.device == "cpu" { self.machines } else { self.ranks }
    }

    /// What it ran on, in words.
    pub fn words(&self) -> String {
        let many = |n: u32, one: &str, several: &str| {
            if n == 1 { format!("1 {one}") } else { format!("{n} {several}") }
        };
        format!(
            "{}: {} on {}, {} each",
            self.device,
            many(self.ranks, "rank", "ranks"),
            many(self.machines, "machine", "machines"),
            many(self.threads, "thread", "threads")
        )
    }
}

/// Device hours of a run of so many minutes; `None` where nothing is recorded. What came before the first record counts as it.
pub fn device_hours(sessions: &[Session], minutes: f64) -> Option<f64> {
    let first = sessions.first()?;
    let ends = sessions.iter().skip(1).map(|s| s.minutes).chain([minutes]);
    let spent = sessions.iter().zip(ends).map(|(s, end)| (end - s.minutes).max(0.0) * f64::from(s.devices()));
    Some((first.minutes.min(minutes) * f64::from(first.devices()) + spent.sum::<f64>()) / 60.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(minutes: f64, device: &str, ranks: u32, machines: u32) -> Session {
        Session { minutes, device: device.into(), ranks, machines, threads: 2 }
    }

    #[test]
    fn hours_count_each_sessions_devices() {
        // 30 minutes on 4 GPUs, then 60 on 8.
        let two = [session(0.0, "cuda", 4, 1), session(30.0, "cuda", 8, 2)];
        assert_eq!(device_hours(&two, 90.0), Some(2.0 + 8.0));
        // Two ranks of one processor are one device.
        assert_eq!(device_hours(&[session(0.0, "cpu", 2, 1)], 90.0), Some(1.5));
        assert_eq!(device_hours(&[session(30.0, "cuda", 2, 1)], 60.0), Some(2.0));
        assert_eq!(device_hours(&[], 60.0), None);
    }

    #[test]
    fn lines_without_numbers_are_no_sessions() {
        let line = |text: &str| Session::of(&serde_json::from_str(text).unwrap());
        let whole =
            r#"{"kind":"session","step":0,"minutes":1.5,"device":"cuda","ranks":4,"machines":2,"threads":1}"#;
        assert_eq!(line(whole).unwrap().words(), "cuda: 4 ranks on 2 machines, 1 thread each");
        assert_eq!(line(r#"{"kind":"session","minutes":null,"device":"cpu","ranks":0,"machines":1}"#), None);
    }
}
