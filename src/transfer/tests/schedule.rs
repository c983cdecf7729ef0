//! Real uploads and downloads under a scheduler: one call to the store after the other, in every order.
//!
//! Each actor is a thread that stops before each of its calls until it is its turn. The scheduler lets each actor sleep
//! after each of its calls until all others have ended, then tries all orders, depth first, up to a number of them, and
//! beyond that some that it draws by lot, each by its number. Beside transfers act a scripted collector that follows R8
//! and one that forgets objects by R12, for which weeks pass. Each rule that is left out must lose an object in some
//! order; with all of them none is lost in any.

use std::collections::BTreeMap;
use std::sync::{Condvar, MutexGuard, PoisonError};
use std::time::Duration;

use super::*;
use crate::clock;
use crate::model::{CopyId, CopyName, Nonce};

/// Orders of one scenario that are tried one after the other until one loses something.
const ORDERS_MAX: usize = 150;

/// The same of a scenario in which none loses anything.
const SAFE_ORDERS_MAX: usize = if cfg!(feature = "soak") { 1000 } else { 10 };

/// Orders that are drawn by lot where those are not all.
const ORDERS_DRAWN: u64 = if cfg!(feature = "soak") { 1000 } else { 5 };

/// No rule is left out.
const NONE: &str = "none";

/// How long those who forget objects wait between their two runs.
const GRACE: Duration = Duration::from_secs(28 * 24 * 3600);

#[derive(Default)]
struct State {
    /// Threads of each actor that wait for a turn.
    waiting: Vec<usize>,
    done: Vec<bool>,
    turn: Option<usize>,
    /// The time that has passed.
    ahead: Duration,
    /// Versions whose push was acknowledged: soon a ref needs them.
    needed: Vec<usize>,
}

impl State {
    /// The actors that can go on, once all have stopped.
    fn ready(&self) -> Option<Vec<usize>> {
        let has_stopped = |actor: usize| self.waiting[actor] > 0 || self.done[actor];
        let all_stopped = self.turn.is_none() && (0..self.done.len()).all(has_stopped);
        all_stopped.then(|| (0..self.done.len()).filter(|&actor| !self.done[actor]).collect())
    }
}

/// Where actors wait for their turns.
#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

impl Gate {
    fn of(actors: usize) -> Arc<Self> {
        let state = State { waiting: vec![0; actors], done: vec![false; actors], ..State::default() };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn.
    fn pass(&self, actor: usize) {
        self.pass_after(actor, Duration::ZERO);
    }

    /// Waits for a turn, before which so much time passes for everybody.
    fn pass_after(&self, actor: usize, time: Duration) {
        let mut state = self.lock();
        state.waiting[actor] += 1;
        self.changed.notify_all();
        let mut state = self.changed.wait_while(state, |state| state.turn != Some(actor)).expect("gate");
        state.turn = None;
        state.waiting[actor] -= 1;
        state.ahead += time;
        clock::tests::set_ahead(state.ahead);
        self.changed.notify_all();
    }

    fn leave(&self, actor: usize) {
        self.lock().done[actor] = true;
        self.changed.notify_all();
    }

    /// Gives turns until all are done; `choose` picks among those that can go on.
    fn direct(&self, choose: &mut dyn FnMut(&[usize]) -> usize) {
        loop {
            let state = self.lock();
            let mut state = self.changed.wait_while(state, |state| state.ready().is_none()).expect("gate");
            let ready = state.ready().unwrap_or_default();
            if ready.is_empty() {
                return;
            }
            state.turn = Some(choose(&ready));
            self.changed.notify_all();
        }
    }
}

/// A store whose calls wait for their turn. It replaces what is there, as services without conditions do.
struct Scheduled {
    store: Shared,
    gate: Arc<Gate>,
    actor: usize,
}

impl ReadStore for Scheduled {
    fn get(&self, key: &Key, limit: Option<u64>) -> store::Result<Box<dyn Read + Send>> {
        self.gate.pass(self.actor);
        self.store.get(key, limit)
    }

    fn list(&self, prefix: &KeyPrefix, visit: &mut dyn FnMut(Listed) -> Visit) -> store::Result<()> {
        self.gate.pass(self.actor);
        self.store.list(prefix, visit)
    }

    fn name(&self) -> String {
        self.store.name()
    }
}

impl WriteStore for Scheduled {
    fn put(&self, key: &Key, body: &Body<'_>) -> store::Result<()> {
        self.gate.pass(self.actor);
        self.store.files().remove(key.as_str());
        self.store.put(key, body)
    }
}

/// What somebody else does with the parts of a process; returns whether all is well.
pub(crate) type Check<'a> = &'a (dyn Fn(&Transfer) -> bool + Sync);

/// What an actor does.
#[derive(Clone, Copy)]
pub(crate) enum Deed<'a> {
    /// Uploads a version.
    Push(usize),
    /// Does so in a process that remembers nothing.
    PushAfresh(usize),
    /// Does so on a machine that remembers what it stored, and once more when all others have ended: what was damaged
    /// before is none of a push's business, but what a repair condemns the next push stores again.
    PushTwice(usize),
    /// Downloads a version.
    Pull(usize),
    /// Condemns the copy of a version, looks for what depends on it, and deletes it if nothing does.
    Collect(usize),
    /// Condemns the copy of a version that no ref needs, and deletes it after the grace period if nothing depends on it.
    Forget(usize),
    /// Has looked before, and deletes it.
    Delete(usize),
    /// Stores a version once more and whole, condemns its other copy, and deletes that.
    Repack(usize),
    /// Does anything else, on a machine that has nothing.
    Other(Check<'a>),
}

/// A store as it was, and who acts on it.
struct Scenario<'a> {
    world: &'a World,
    files: BTreeMap<String, Vec<u8>>,
    deeds: &'a [Deed<'a>],
}

impl World {
    fn copy_of(&self, number: usize) -> Option<CopyName> {
        let folder = KeyPrefix::folder(&self.versions[number].0.oid).to_string();
        let files = self.store.files();
        let mut entries =
            files.keys().filter(|key| key.starts_with(&folder)).filter_map(|key| Entry::parse(key));
        entries.find_map(|entry| if let Entry::Copy(name) = entry { Some(name) } else { None })
    }

    /// Damages the copy of a version.
    pub(crate) fn damage(&self, number: usize) {
        let key = Key::copy(&self.copy_of(number).expect("a copy")).to_string();
        self.store.files().get_mut(&key).expect("its bytes").iter_mut().for_each(|byte| *byte ^= 1);
    }

    fn condemn(&self, id: &CopyId) {
        self.store.files().insert(Key::tombstone(id).to_string(), b"test\n".to_vec());
    }

    fn delete(&self, name: &CopyName) {
        self.store.files().remove(Key::copy(name).as_str());
    }

    fn has_dependants(&self, id: &CopyId) -> bool {
        let is_one =
            |key: &String| matches!(Entry::parse(key), Some(Entry::Copy(name)) if name.base() == Some(*id));
        self.store.files().keys().any(is_one)
    }

    /// Whether a machine that has nothing gets a version.
    fn is_readable(&self, number: usize, elsewhere: &Path) -> bool {
        let (version, bytes) = &self.versions[number];
        // The file goes with the process that fetched it.
        let transfer = self.transfer(elsewhere);
        let file = transfer.download(*version, &Meter::silent());
        file.is_ok_and(|file| std::fs::read(file).is_ok_and(|read| read == *bytes))
    }
}

impl Scenario<'_> {
    /// Where `PushTwice` remembers what it stored, from one process to the next and not to the next order.
    fn memory(&self) -> PathBuf {
        self.world.repo().join(".git/memory")
    }

    /// Does one deed; returns whether nothing was lost by it as far as it can tell itself.
    fn act(&self, deed: Deed<'_>, actor: usize, gate: &Arc<Gate>, rule: &'static str, folder: &Path) -> bool {
        let world = self.world;
        let transfer_with = |folder: &Path, memory: Option<PathBuf>| {
            let store = Scheduled { store: world.store.clone(), gate: Arc::clone(gate), actor };
            let mut transfer = world.transfer_on(Box::new(store), folder, memory);
            transfer.depot.set_rules(Rules::without(rule));
            transfer
        };
        let transfer = |folder: &Path| transfer_with(folder, None);
        match deed {
            Deed::Push(number) | Deed::PushAfresh(number) => {
                let version = world.versions[number].0;
                let path = object_path(&world.repo().join(".git/lfs"), &version.oid);
                let place = if matches!(deed, Deed::Push(_)) { world.repo() } else { folder };
                let worked = transfer(place).upload(version, &path, &Meter::silent()).is_ok();
                gate.lock().needed.extend(worked.then_some(number));
                worked
            }
            Deed::PushTwice(number) => {
                let transfer = transfer_with(world.repo(), Some(self.memory()));
                transfer.upload(world.versions[number].0, Path::new(""), &Meter::silent()).is_ok()
            }
            Deed::Other(check) => check(&transfer(folder)),
            Deed::Pull(number) => {
                transfer(folder).download(world.versions[number].0, &Meter::silent()).is_ok()
            }
            Deed::Collect(number) => {
                let Some(victim) = world.copy_of(number) else { return true };
                gate.pass(actor);
                world.condemn(&victim.id);
                gate.pass(actor);
                let is_needed = world.has_dependants(&victim.id);
                if !is_needed {
                    gate.pass(actor);
                    world.delete(&victim);
                }
                true
            }
            Deed::Forget(number) => {
                let Some(victim) = world.copy_of(number) else { return true };
                gate.pass(actor);
                world.condemn(&victim.id);
                gate.pass_after(actor, GRACE);
                // All refs are read anew.
                let is_needed = gate.lock().needed.contains(&number);
                if !is_needed && !world.has_dependants(&victim.id) {
                    gate.pass(actor);
                    world.delete(&victim);
                }
                true
            }
            Deed::Delete(number) => {
                let Some(victim) = world.copy_of(number) else { return true };
                gate.pass(actor);
                world.delete(&victim);
                true
            }
            Deed::Repack(number) => {
                let Some(old) = world.copy_of(number) else { return true };
                let id = CopyId { nonce: Nonce::from_bytes([7; 16]), ..old.id };
                let new = Key::copy(&CopyName { id, shape: Shape::Full { codec: None } });
                gate.pass(actor);
                world.store.files().insert(new.to_string(), world.versions[number].1.clone());
                gate.pass(actor);
                world.condemn(&old.id);
                gate.pass(actor);
                world.delete(&old);
                true
            }
        }
    }

    /// Uploads a version where it was uploaded before, while nobody else acts.
    fn push_again(&self, number: usize) -> bool {
        let transfer = self.world.transfer_with(self.world.repo(), Some(self.memory()));
        transfer.upload(self.world.versions[number].0, Path::new(""), &Meter::silent()).is_ok()
    }

    /// Plays one order; returns whether an object was lost.
    fn loses(&self, rule: &'static str, elsewhere: &Path, choose: &mut dyn FnMut(&[usize]) -> usize) -> bool {
        self.world.store.files().clone_from(&self.files);
        // There is none where nobody remembers.
        let _ = std::fs::remove_dir_all(self.memory());
        let gate = Gate::of(self.deeds.len());
        let worked: Vec<bool> = std::thread::scope(|scope| {
            let actors: Vec<_> = (0..self.deeds.len())
                .map(|actor| {
                    let gate = Arc::clone(&gate);
                    scope.spawn(move || {
                        let worked = self.act(self.deeds[actor], actor, &gate, rule, elsewhere);
                        gate.leave(actor);
                        worked
                    })
                })
                .collect();
            gate.direct(choose);
            actors.into_iter().map(|actor| actor.join().expect("an actor")).collect()
        });
        self.deeds.iter().zip(worked).any(|(deed, worked)| match deed {
            Deed::Push(number) | Deed::PushAfresh(number) => {
                worked && !self.world.is_readable(*number, elsewhere)
            }
            Deed::PushTwice(number) => {
                worked && !(self.push_again(*number) && self.world.is_readable(*number, elsewhere))
            }
            Deed::Pull(_) | Deed::Other(_) => !worked,
            _ => false,
        })
    }

    /// Plays orders until one loses an object, or there are no more; returns how many were played, and whether
    /// the last one lost it.
    fn explore(&self, rule: &'static str) -> (usize, bool) {
        let (stopped, is_lost) = self.explore_stops(rule);
        if is_lost {
            return (stopped, true);
        }
        let max = if rule == NONE { SAFE_ORDERS_MAX } else { ORDERS_MAX };
        let (played, is_lost) = self.explore_in_turn(rule, max);
        let played = stopped + played;
        if is_lost || played < stopped + max {
            return (played, is_lost);
        }
        let elsewhere = self.world.elsewhere();
        for seed in 0..ORDERS_DRAWN {
            let mut number = seed;
            let mut choose = |ready: &[usize]| {
                // The constants of Knuth's MMIX.
                number =
                    number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                ready[(number >> 33) as usize % ready.len()]
            };
            if self.loses(rule, elsewhere.path(), &mut choose) {
                return (played + seed as usize, true);
            }
        }
        (played + ORDERS_DRAWN as usize, false)
    }

    /// Lets each actor sleep after each of its calls until all others have ended.
    fn explore_stops(&self, rule: &'static str) -> (usize, bool) {
        let elsewhere = self.world.elsewhere();
        let mut played = 0;
        for sleeper in 0..self.deeds.len() {
            for calls in 1.. {
                let mut left = calls;
                let mut choose = |ready: &[usize]| {
                    let other = ready.iter().copied().find(|actor| *actor != sleeper);
                    let is_awake = ready.contains(&sleeper) && left > 0;
                    left -= usize::from(is_awake);
                    if is_awake { sleeper } else { other.unwrap_or(sleeper) }
                };
                played += 1;
                if self.loses(rule, elsewhere.path(), &mut choose) {
                    return (played, true);
                }
                if left > 0 {
                    break;
                }
            }
        }
        (played, false)
    }

    /// Tries the orders depth first, at most so many.
    fn explore_in_turn(&self, rule: &'static str, max: usize) -> (usize, bool) {
        let elsewhere = self.world.elsewhere();
        let mut order: Vec<(usize, usize)> = Vec::new();
        for played in 1.. {
            let mut step = 0;
            let mut choose = |ready: &[usize]| {
                if step == order.len() {
                    order.push((0, ready.len()));
                }
                order[step].1 = ready.len();
                step += 1;
                ready[order[step - 1].0.min(ready.len() - 1)]
            };
            if self.loses(rule, elsewhere.path(), &mut choose) {
                return (played, true);
            }
            while order.last().is_some_and(|(choice, of)| choice + 1 >= *of) {
                order.pop();
            }
            match order.last_mut() {
                Some((choice, _)) if played < max => *choice += 1,
                _ => return (played, false),
            }
        }
        (0, false)
    }
}

/// Fails the test unless nothing is lost with all rules, and something is without one of them.
pub(crate) fn assert_needed(world: &World, rule: &'static str, deeds: &[Deed<'_>]) {
    let orders = assert_kept(world, deeds);
    assert!(orders > 3, "only {orders} orders");
    let files = world.store.files().clone();
    let (orders, is_lost) = Scenario { world, files, deeds }.explore(rule);
    assert!(is_lost, "nothing was lost without {rule} in {orders} orders");
}

/// Fails the test if something is lost with all rules; returns how many orders were played.
pub(crate) fn assert_kept(world: &World, deeds: &[Deed<'_>]) -> usize {
    let files = world.store.files().clone();
    let scenario = Scenario { world, files, deeds };
    let (orders, is_lost) = scenario.explore(NONE);
    scenario.world.store.files().clone_from(&scenario.files);
    assert!(!is_lost, "lost in order {orders}, with all rules");
    orders
}

/// Versions of which the first are stored.
pub(crate) fn stored(versions: u8, stored: usize) -> World {
    let world = World::with_versions(versions);
    for number in 0..stored {
        world.upload(number).expect("stored");
    }
    world
}

/// The first version is condemned, and whoever did that saw the second not yet, which is a delta on it.
fn stillborn(versions: u8) -> World {
    let world = stored(versions, 2);
    let first = world.copy_of(0).expect("a copy");
    assert!(world.has_dependants(&first.id));
    world.condemn(&first.id);
    world
}

#[test]
fn without_a_name_of_its_own_a_copy_is_deleted_as_another() {
    let world = World::with_versions(1);
    let (version, bytes) = &world.versions[0];
    let id = CopyId { oid: version.oid, nonce: Nonce::from_bytes([0; 16]) };
    let name = Key::copy(&CopyName { id, shape: Shape::Full { codec: None } });
    world.store.files().insert(name.to_string(), bytes.clone());
    world.condemn(&id);
    assert_needed(&world, "R1", &[Deed::Push(0), Deed::Delete(0)]);
}

#[test]
fn without_a_look_at_a_bases_base_a_delta_is_built_on_what_goes() {
    assert_needed(&stillborn(3), "R4a", &[Deed::Push(2), Deed::Delete(0)]);
}

#[test]
fn without_a_look_after_the_put_a_delta_loses_its_base() {
    assert_needed(&stored(2, 1), "R4c", &[Deed::Push(1), Deed::Collect(0)]);
}

#[test]
fn without_the_rely_rule_what_is_there_is_taken_for_stored() {
    assert_needed(&stillborn(2), "R5", &[Deed::Push(1), Deed::Delete(0)]);
}

#[test]
fn without_a_second_listing_a_reader_misses_what_is_there() {
    assert_needed(&stored(1, 1), "R7", &[Deed::Pull(0), Deed::Repack(0)]);
}

#[test]
fn without_two_weeks_a_push_relies_on_what_was_forgotten_meanwhile() {
    assert_needed(&stored(2, 2), "R6", &[Deed::PushAfresh(1), Deed::Forget(1)]);
}

/// In whatever order: there is one actor only.
#[test]
fn without_proof_of_what_is_sent_other_bytes_are_stored() {
    let mut world = World::with_versions(0);
    world.commit(b"a text that is worth packing, ".repeat(1000));
    let path = object_path(&world.repo().join(".git/lfs"), &world.versions[0].0.oid);
    std::fs::write(&path, b"another that has the same size".repeat(1000)).expect("damage");
    let files = world.store.files().clone();
    let scenario = Scenario { world: &world, files, deeds: &[Deed::Push(0)] };
    assert!(!scenario.explore(NONE).1);
    assert!(scenario.explore("R2").1);
}

#[test]
fn two_pushers_and_a_collector_lose_nothing() {
    let world = stored(3, 1);
    let orders = assert_kept(&world, &[Deed::Push(1), Deed::Push(2), Deed::Collect(0)]);
    assert!(orders > SAFE_ORDERS_MAX + ORDERS_DRAWN as usize, "only {orders} orders");
}

#[test]
fn what_is_needed_is_not_forgotten_and_read_all_the_time() {
    assert_kept(&stored(3, 2), &[Deed::PushAfresh(2), Deed::Pull(1), Deed::Forget(0)]);
}
