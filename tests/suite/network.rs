//! Flaky networks are survived: every way to go wrong, at every request of a push and of a pull.
//!
//! Once: the transfer succeeds by itself, or fails with the code that fits. From then on for ever: it fails with
//! that code, in a time that the settings bound. Whatever came of it, nothing is lost or damaged, and the next try
//! with a service in good health works.

use std::time::Duration;

use crate::scene::{Scene, pull_cold, push_delta_afresh, push_full, push_history};
use crate::support::data::noise;
use crate::support::fake_lfs::{FakeLfs, Transfer};
use crate::support::run::is_soak;
use crate::support::s3::{Fault, Kind, any, on};
use crate::world::{World, assert_report};

/// A way to go wrong, and the codes that a transfer may fail with: after one time, and when it never ends.
struct Wrong {
    fault: Fault,
    once: &'static [i64],
    lasting: &'static [i64],
    /// Whether it takes a time-out to notice.
    is_slow: bool,
}

fn wrong(fault: Fault, once: &'static [i64], lasting: &'static [i64]) -> Wrong {
    let is_slow = matches!(fault, Fault::Hang | Fault::HangAfter | Fault::StallBody(_) | Fault::Drip(_));
    Wrong { fault, once, lasting, is_slow }
}

/// What may pass by itself, and is then no failure at all.
fn passing(fault: Fault) -> Wrong {
    wrong(fault, &[], &[4001])
}

fn all_wrongs() -> Vec<Wrong> {
    vec![
        passing(Fault::internal_error()),
        passing(Fault::slow_down()),
        passing(Fault::too_many_requests(0)),
        passing(Fault::ResetBefore),
        passing(Fault::ResetInUpload(50)),
        passing(Fault::ResetAfter),
        passing(Fault::Hang),
        passing(Fault::HangAfter),
        passing(Fault::CutBody(70)),
        passing(Fault::StallBody(70)),
        passing(Fault::Drip(Duration::from_millis(100))),
        passing(Fault::conflict()),
        // A proxy's page is not asked for again, and never means that something is absent.
        wrong(Fault::Html404, &[4001], &[4001]),
        wrong(Fault::ErrorIn200, &[4001], &[4001, 2004, 5004]),
        // Listings carry no checksum: where they are damaged for ever, copies cannot be seen.
        wrong(Fault::FlipByte(130), &[4001], &[4001, 2004, 5003, 5004]),
        wrong(Fault::FlipByte(400), &[4001], &[4001, 2004, 5003, 5004]),
        wrong(Fault::expired_token(), &[3002], &[3002]),
        wrong(Fault::access_denied(), &[3001], &[3001]),
        wrong(Fault::Redirect("http://127.0.0.1:9/".into()), &[2005], &[2005]),
        wrong(Fault::status(412, "PreconditionFailed"), &[4001], &[4001]),
    ]
}

impl Scene {
    fn play_with(&self, wrong: &Wrong, attempts: &str) -> Transfer {
        let mut command = self.command();
        command.envs([("LFS_DELTA_BACKOFF", "1ms"), ("LFS_DELTA_ATTEMPTS", attempts)]);
        if wrong.is_slow {
            command.envs([("LFS_DELTA_READ_TIMEOUT", "300ms"), ("LFS_DELTA_STALL_TIMEOUT", "300ms")]);
        }
        let mut agent = FakeLfs::spawn(command);
        let transfer = agent.attempt(self.operation, &self.request).expect("an answer");
        self.assert_bytes(&transfer);
        agent.terminate();
        let left = self.world.temporary_files(self.machine);
        assert!(left.is_empty(), "{}: left behind: {left:?}", self.name);
        transfer
    }

    /// How many requests it makes when nothing goes wrong.
    fn requests(&self) -> usize {
        self.restore();
        self.play_with(&passing(Fault::ResetBefore), "8").succeeded();
        self.world.server().take_calls().len()
    }

    /// Lets each request go wrong in each way, once; every so many of them where that would take too long.
    fn go_wrong_once(&self, stride: usize) {
        self.go_wrong(if is_soak() { 1 } else { stride }, |wrong, nth| {
            self.world.server().fail(any().nth(nth), wrong.fault.clone());
            (self.play_with(wrong, "8"), wrong.once)
        });
    }

    /// Lets all requests from each one on go wrong in each way.
    fn go_wrong_for_ever(&self) {
        self.go_wrong(if is_soak() { 1 } else { 3 }, |wrong, nth| {
            self.world.server().fail(any().nth(nth).forever(), wrong.fault.clone());
            (self.play_with(wrong, "3"), wrong.lasting)
        });
    }

    fn go_wrong(&self, stride: usize, play: impl Fn(&Wrong, usize) -> (Transfer, &'static [i64])) {
        let requests = self.requests();
        let (mut tried, mut worked, mut unfit) = (0, 0, Vec::new());
        for (number, wrong) in all_wrongs().into_iter().enumerate() {
            for nth in (1 + number % stride..=requests).step_by(stride) {
                self.restore();
                let (transfer, codes) = play(&wrong, nth);
                let (code, fault) = (transfer.code(), &wrong.fault);
                println!("{}, request {nth}, {fault:?}: {code:?} after {:?}", self.name, transfer.took);
                self.world.server().heal();
                unfit.extend(
                    self.unfit(&transfer, codes).map(|code| format!("{fault:?} of request {nth}: {code}")),
                );
                self.assert_nothing_lost(code.is_none());
                tried += 1;
                worked += usize::from(code.is_none());
            }
        }
        println!("{}: {worked} of {tried} worked", self.name);
        assert!(requests > 3, "only {requests} requests");
        assert!(unfit.is_empty(), "{}: these codes do not fit:\n{}", self.name, unfit.join("\n"));
    }

    fn assert_nothing_lost(&self, was_acknowledged: bool) {
        if self.operation == "upload" {
            return self.assert_survived(was_acknowledged);
        }
        let still = self.world.keys("");
        self.restore();
        assert_eq!(still, self.world.keys(""), "{}: a pull changed the store", self.name);
    }

    /// Says what was answered, if it does not fit.
    fn unfit(&self, transfer: &Transfer, codes: &[i64]) -> Option<String> {
        let (code, message) = (transfer.code()?, transfer.error()?);
        // An earlier version that is to be stored first is named where that fails.
        let named = self.objects.iter().find(|object| message.contains(&object.oid));
        let named = named.map_or(&self.object().oid, |object| &object.oid);
        assert_report(message, &format!("E{code}"), &[named]);
        (!codes.contains(&code)).then(|| message.to_owned())
    }
}

#[test]
fn a_push_survives_every_fault_of_every_request() {
    push_delta_afresh(World::on_s3()).go_wrong_once(1);
}

#[test]
fn a_pull_survives_every_fault_of_every_request() {
    pull_cold(World::on_s3()).go_wrong_once(1);
}

/// Parts are of 64 KiB here, so that a copy of more than 512 KiB goes up in parts.
#[test]
fn a_push_in_parts_survives_every_fault_of_every_request() {
    let mut world = World::on_s3();
    world.server().allow_parts_of(1);
    world.sandbox.set("LFS_DELTA_PART_SIZE", "64K");
    push_full(world, noise(83, 600_000)).go_wrong_once(13);
}

#[test]
fn a_push_of_a_history_survives_every_fault_of_every_request() {
    push_history(World::on_s3()).go_wrong_once(13);
}

#[test]
fn a_push_gives_up_what_goes_wrong_for_ever() {
    push_delta_afresh(World::on_s3()).go_wrong_for_ever();
}

#[test]
fn a_pull_gives_up_what_goes_wrong_for_ever() {
    pull_cold(World::on_s3()).go_wrong_for_ever();
}

#[test]
fn an_endless_answer_is_given_up_and_not_kept() {
    let mut world = World::on_s3();
    world.sandbox.set("LFS_DELTA_ATTEMPTS", "2");
    let (object, _) = world.local(noise(81, 20_000));
    world.push(&object);
    world.add_machine("b");
    for page in ["<Contents><Key>x</Key></Contents>", "<ListBucketResult>", "x"] {
        world.server().fail(on(Kind::List).forever(), Fault::Endless(page));
        let mut agent = world.start("b", "download");
        assert_report(&agent.download(&object.oid, object.size()).failed(), "E4001", &[&object.oid]);
        assert!(agent.memory_kib() < 150 << 10, "{} KiB for {page}", agent.memory_kib());
        agent.terminate();
        world.server().heal();
    }
}

/// An empty page of a listing that goes on.
fn empty_page(token: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult><KeyCount>0</KeyCount><IsTruncated>true\
         </IsTruncated><NextContinuationToken>{token}</NextContinuationToken></ListBucketResult>"
    )
}

#[test]
fn a_listing_without_end_is_given_up() {
    let world = World::on_s3();
    let (object, _) = world.local(noise(82, 20_000));
    world.push(&object);
    world.add_machine("b");
    let same = || world.server().fail(on(Kind::List).forever(), Fault::Answer(200, empty_page("same")));
    let ever_new = || {
        let pages = (0..150).map(|number| empty_page(&number.to_string()));
        pages.for_each(|page| world.server().fail(on(Kind::List), Fault::Answer(200, page)));
        same();
    };
    for (service, says) in
        [(&same as &dyn Fn(), "the same page again"), (&ever_new, "one empty page after the other")]
    {
        service();
        let mut agent = world.start("b", "download");
        let message = agent.download(&object.oid, object.size()).failed();
        assert_report(&message, "E4001", &[&object.oid, says]);
        agent.terminate();
        world.server().heal();
    }
}
