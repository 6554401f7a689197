use std::sync::{Arc, Mutex};

use selvage_crds::conditions::reason;

use super::*;
use crate::report::Verdict;
use crate::watch::policy::Observed;

/// Keeps what was written and when; refuses as often as told.
#[derive(Clone)]
struct Recorder {
    start: Instant,
    inner: Arc<Mutex<Recorded>>,
}

#[derive(Default)]
struct Recorded {
    /// Milliseconds since the start, and the patch.
    writes: Vec<(u64, Value)>,
    refuse: usize,
}

impl Target for Recorder {
    async fn patch(&self, status: Value) -> Result<(), String> {
        let mut inner = self.inner.lock().unwrap();
        if inner.refuse > 0 {
            inner.refuse -= 1;
            return Err("refused".to_owned());
        }
        let at = self.start.elapsed().as_millis().try_into().unwrap();
        inner.writes.push((at, status));
        Ok(())
    }
}

struct Bench {
    recorder: Recorder,
    report: watch::Sender<Report>,
    policy: watch::Sender<PolicyView>,
}

impl Bench {
    fn start() -> Self {
        let recorder = Recorder { start: Instant::now(), inner: Arc::default() };
        let (report, seen) = watch::channel(Report::default());
        let (policy, policy_seen) = watch::channel(PolicyView::default());
        tokio::spawn(write(recorder.clone(), seen, policy_seen));
        Self { recorder, report, policy }
    }

    fn object(&self, uid: &str, status: Option<NodePolicyStatus>) {
        let observed = Observed {
            uid: uid.to_owned(),
            generation: 1,
            teardown: false,
            digest: String::new(),
            policy_set: String::new(),
            policy: Ok(Arc::default()),
            status,
        };
        self.policy.send_replace(PolicyView {
            listed: true,
            observed: Some(Arc::new(observed)),
            present: true,
            lists: 1,
        });
    }

    fn change(&self, change: impl FnOnce(&mut Report)) {
        self.report.send_modify(change);
    }

    /// When writes happened, in milliseconds since the start.
    fn times(&self) -> Vec<u64> {
        self.recorder.inner.lock().unwrap().writes.iter().map(|(at, _)| *at).collect()
    }

    fn last(&self) -> Value {
        self.recorder.inner.lock().unwrap().writes.last().unwrap().1.clone()
    }
}

async fn after(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_before_there_is_something_to_say_and_no_heartbeat_after() {
    let bench = Bench::start();
    after(10_000).await;
    bench.object("u", None);
    after(10_000).await;
    assert!(bench.times().is_empty());
    bench.change(|r| r.generation = Some(1));
    after(3_600_000).await;
    assert_eq!(bench.times(), [20_000]);
}

#[tokio::test(start_paused = true)]
async fn changes_are_written_at_most_once_a_second_and_figures_rarer() {
    let bench = Bench::start();
    bench.object("u", None);
    for generation in 1..=30 {
        bench.change(|r| r.generation = Some(generation));
        after(100).await;
    }
    after(5_000).await;
    assert_eq!(bench.times(), [0, 1_000, 2_000, 3_000]);
    assert_eq!(bench.last()["observedGeneration"], 30);
    bench.change(|r| r.sizes.elements = 5);
    after(30_000).await;
    assert_eq!(bench.times().last(), Some(&13_000));
    assert_eq!(bench.last()["counts"]["elements"], 5);
    bench.change(|r| r.digest = Some("a".repeat(32)));
    after(10).await;
    assert_eq!(bench.times().len(), 6, "at once after a quiet time");
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_is_tried_again_with_what_is_true_then() {
    let bench = Bench::start();
    bench.recorder.inner.lock().unwrap().refuse = 3;
    bench.object("u", None);
    bench.change(|r| r.generation = Some(1));
    after(500).await;
    bench.change(|r| r.generation = Some(2));
    after(60_000).await;
    assert_eq!(bench.times().len(), 1);
    assert_eq!(bench.last()["observedGeneration"], 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_absent_now_is_cleared() {
    let bench = Bench::start();
    bench.object("u", None);
    bench.change(|r| {
        r.generation = Some(1);
        r.last_error = Some(("no".to_owned(), Timestamp::now()));
        r.digest = Some("a".repeat(32));
    });
    after(1).await;
    assert_eq!(bench.last()["lastError"]["message"], "no");
    bench.change(|r| {
        r.last_error = None;
        r.digest = None;
    });
    after(2_000).await;
    for name in ["lastError", "digest", "notProgrammed"] {
        assert_eq!(bench.last().get(name), Some(&Value::Null), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_transition_time_outlives_the_agent() {
    let bench = Bench::start();
    let long_ago = Time(Timestamp::from_second(1).unwrap());
    let report = Report { generation: Some(1), ..Report::default() };
    bench.object("u", Some(status(&report, &[], &long_ago)));
    bench.change(|r| r.generation = Some(2));
    after(1).await;
    let programmed = || {
        let conditions = bench.last()["conditions"].as_array().unwrap().clone();
        conditions.into_iter().find(|condition| condition["type"] == "Programmed").unwrap()
    };
    assert_eq!(programmed()["lastTransitionTime"], "1970-01-01T00:00:01Z");
    bench.change(|r| r.programmed = Verdict::yes(reason::PROGRAMMED, "all of it"));
    after(2_000).await;
    let programmed = programmed();
    assert_eq!((&programmed["status"], &programmed["reason"]), (&"True".into(), &"Programmed".into()));
    assert_ne!(programmed["lastTransitionTime"], "1970-01-01T00:00:01Z");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_gone_gets_no_status_and_a_new_one_does() {
    let bench = Bench::start();
    bench.object("u", None);
    bench.change(|r| r.generation = Some(1));
    after(1).await;
    bench.policy.send_modify(|view| view.present = false);
    bench.change(|r| r.generation = Some(2));
    after(60_000).await;
    assert_eq!(bench.times().len(), 1);
    bench.object("v", None);
    after(1).await;
    assert_eq!(bench.times().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_written_is_written_again_after_a_new_list() {
    let bench = Bench::start();
    bench.object("u", None);
    bench.change(|r| r.generation = Some(1));
    after(60_000).await;
    bench.policy.send_modify(|view| view.lists += 1);
    after(60_000).await;
    assert_eq!(bench.times(), [0, 60_000]);
    assert_eq!(bench.last()["observedGeneration"], 1);
}
