//! How long a fine-tuned run needs to be as good as one from scratch gets (paper Sec. 5.2, Figure 4).

use serde::Serialize;

use crate::run_report::{RunReport, Validation};

/// Two runs on one task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TimeToMatch {
    /// The run from scratch.
    pub scratch: String,
    /// The run from a pre-trained model.
    pub tuned: String,
    /// The scratch run's best validation metric; lower is better.
    pub best: Option<f64>,
    /// Hours that the scratch run needed for it.
    pub scratch_best_hours: Option<f64>,
    /// Hours of the whole scratch run: what Figure 4 compares with.
    pub scratch_hours: Option<f64>,
    /// Hours until the fine-tuned run's first validation that is at least as good.
    pub matched_hours: Option<f64>,
    /// Steps until then.
    pub matched_step: Option<u64>,
    /// Hours of the whole fine-tuned run.
    pub tuned_hours: Option<f64>,
    /// Hours of the whole scratch run over hours until the match.
    pub factor: Option<f64>,
    /// Why there is no match.
    pub problem: Option<String>,
}

/// Compares two runs. Hours are those of the clock: the machine must have been the same and otherwise idle.
pub fn of(scratch: &RunReport, tuned: &RunReport) -> TimeToMatch {
    let best = scratch.validations.iter().reduce(|best, v| if v.metric < best.metric { v } else { best });
    let matched = best.and_then(|best| tuned.validations.iter().find(|v| v.metric <= best.metric));
    let hours = |minutes: Option<f64>| minutes.map(|m| m / 60.0);
    let at = |validation: Option<&Validation>| hours(validation.and_then(|v| v.minutes));
    let (scratch_hours, matched_hours) = (hours(scratch.minutes), at(matched));
    let factor = scratch_hours.zip(matched_hours).map(|(slow, fast)| slow / fast).filter(|f| f.is_finite());
    let problem = match (best, matched) {
        (None, _) => Some(format!("{} has no validation", scratch.name)),
        (Some(_), None) => Some(format!("{} does not reach it", tuned.name)),
        (Some(_), Some(_)) if factor.is_none() => {
            Some("the runs recorded no minutes (made by an earlier version)".into())
        }
        _ => None,
    };
    TimeToMatch {
        scratch: scratch.name.clone(),
        tuned: tuned.name.clone(),
        best: best.map(|v| v.metric),
        scratch_best_hours: at(best),
        scratch_hours,
        matched_hours,
        matched_step: matched.map(|v| v.step),
        tuned_hours: hours(tuned.minutes),
        factor,
        problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn run(validations: &[(f64, f64)], end: f64) -> RunReport {
        let dir = tempfile::tempdir().unwrap();
        let mut lines = String::new();
        for (i, (minutes, metric)) in validations.iter().enumerate() {
            let record = serde_json::json!({
                "kind": "validation", "step": 10 * (i + 1), "minutes": minutes, "metric": metric, "tasks": {},
            });
            lines.push_str(&record.to_string());
            lines.push('\n');
        }
        let last = 10 * validations.len();
        let finished =
            format!("{{\"kind\":\"finished\",\"step\":{last},\"minutes\":{end},\"ending\":\"patience\"}}\n");
        fs::write(dir.path().join("metrics.jsonl"), lines + &finished).unwrap();
        crate::run_report::gather(dir.path()).unwrap()
    }

    #[test]
    fn the_first_validation_as_good_counts() {
        let scratch = run(&[(60.0, 0.5), (120.0, 0.2), (180.0, 0.3)], 240.0);
        let tuned = run(&[(10.0, 0.4), (20.0, 0.25), (30.0, 0.2), (40.0, 0.1)], 50.0);
        let told = of(&scratch, &tuned);
        assert_eq!(
            (told.best, told.scratch_best_hours, told.scratch_hours),
            (Some(0.2), Some(2.0), Some(4.0))
        );
        assert_eq!((told.matched_hours, told.matched_step), (Some(0.5), Some(30)));
        assert_eq!((told.factor, told.problem), (Some(8.0), None));
    }

    #[test]
    fn what_is_never_reached_is_told() {
        let told = of(&run(&[(60.0, 0.1)], 60.0), &run(&[(1.0, 0.4)], 2.0));
        assert_eq!((told.factor, told.matched_hours), (None, None));
        assert!(told.problem.unwrap().contains("does not reach it"));
        assert!(of(&run(&[], 1.0), &run(&[], 1.0)).problem.unwrap().contains("no validation"));
    }
}
