//! One history: a seed decides who does what, in which order, and what goes wrong.

mod probes;

use crate::Verdicts;
use crate::client::Client;
use crate::clock::{EPOCH_SECONDS, SimClock};
use crate::commits::CommitsPlayed;
use crate::filtered;
use crate::lanes::{SimLanes, SimMesh, SimSocket};
use crate::network::{Network, Pipe, QUEUE_BYTES_MAX, SimSockets};
use crate::nodes::Cluster;
use crate::removals::Removals;
use crate::spending::{MESSAGES_PER_MINUTE, Spending};
use crate::store::Store;
use chat_server::address::TrustedProxies;
use chat_server::auth::factor_policy::FactorPolicy;
use chat_server::auth::token::TokenKeys;
use chat_server::chat::filter::FilterRuleSet;
use chat_server::ids::{ConversationId, SessionId, ShardId, UserId};
use chat_server::latency::CommitQueue;
use chat_server::limits::{COMMIT_WAIT_MAX_MS, Features, INPUT_WAIT_TARGET_MS, Limits};
use chat_server::mesh::asked::{Approval, ApprovedText};
use chat_server::mesh::counters::ShardCounters;
use chat_server::mesh::frame::ControlFrame;
use chat_server::mesh::live::LiveSettings;
use chat_server::mesh::overload::Overload;
use chat_server::mesh::placement::Placement;
use chat_server::mesh::quota::Quota;
use chat_server::net::SocketEvent;
use chat_server::shard::world::{Transport, World};
use chat_server::shard::{Audit, Shard, ShardSettings};
use chat_server::wire::command::Command;
use serde_json::json;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Steps of the wild part.
const STEPS: usize = 220;
/// Rounds of the healing part; far more than anything needs.
const HEALING_ROUNDS_MAX: usize = 400;
/// Milliseconds between two ticks of a shard.
const TICK_MS: u64 = 100;
const HEARTBEAT_MS: u64 = 3_000;
const SECRET: &[u8] = b"a secret of the simulation, 32 bytes";

/// The world of a simulated shard.
pub struct SimWorld;

impl World for SimWorld {
    type Socket = SimSocket;
    type Sockets = SimSockets;
    type Lanes = SimLanes;
    type Clock = SimClock;
}

/// What is the same in all histories of a thread, and costs time to make.
pub struct Stage {
    keys: Arc<TokenKeys>,
    counters: Vec<Arc<ShardCounters>>,
    tokens: RefCell<HashMap<(UserId, SessionId), String>>,
    rules: Arc<FilterRuleSet>,
    /// What the content filter did in the histories so far.
    pub filter_played: RefCell<BTreeSet<String>>,
    /// In which forms messages were committed in the histories so far.
    pub commits_played: RefCell<CommitsPlayed>,
    started: Instant,
}

impl Default for Stage {
    fn default() -> Self {
        // PROOF: the secret has 32 bytes or more, which is all that is asked of it.
        let keys = TokenKeys::new(SECRET).unwrap_or_else(|_| unreachable!("the secret is long enough"));
        Self {
            keys: Arc::new(keys),
            counters: (0..5).map(|_| Arc::new(ShardCounters::new(&Command::NAMES))).collect(),
            tokens: RefCell::default(),
            rules: filtered::rules(),
            filter_played: RefCell::default(),
            commits_played: RefCell::default(),
            started: Instant::now(),
        }
    }
}

impl Stage {
    fn token(&self, user: UserId, session: SessionId) -> String {
        let issue = || self.keys.issue_access(user, session, EPOCH_SECONDS, 86_400);
        self.tokens.borrow_mut().entry((user, session)).or_insert_with(issue).clone()
    }
}

struct Core {
    shard: Shard<SimWorld>,
    last_tick_ms: u64,
    /// Its number on its node.
    id: ShardId,
    /// The lanes of its node.
    mesh: Rc<RefCell<SimMesh>>,
    /// What its node knows.
    removals: Rc<RefCell<Removals>>,
}

struct History<'a> {
    stage: &'a Stage,
    clock: SimClock,
    verdicts: Verdicts,
    /// By node.
    meshes: Vec<Rc<RefCell<SimMesh>>>,
    /// Between the nodes, if there are several.
    cluster: Option<Cluster>,
    network: Rc<RefCell<Network>>,
    store: Rc<RefCell<Store>>,
    /// Little room on the I/O shard, and read markers.
    is_tight: bool,
    /// Rules of the content filter, and texts that they match.
    is_filtered: bool,
    /// Where everything happens, so that the committers know most senders. Clients send more messages than otherwise.
    talks_in: Option<ConversationId>,
    /// Small budgets of messages, and a check of them.
    is_limited: bool,
    spending: Rc<RefCell<Spending>>,
    cores: Vec<Core>,
    clients: Vec<Client>,
    users: Vec<UserId>,
    conversations: Vec<ConversationId>,
    connections: Arc<AtomicUsize>,
    /// Changes may have to wait too long.
    may_overload: bool,
}

impl<'a> History<'a> {
    fn new(stage: &'a Stage, seed: u64) -> Self {
        let clock = SimClock::new(seed, stage.started);
        let verdicts = Verdicts::default();
        let shards = 1 + clock.below(3);
        let is_tight = seed.is_multiple_of(2);
        let is_filtered = seed % 8 >= 6;
        // One node with all of the shards, or two to five with one each.
        let is_cluster = seed.is_multiple_of(5);
        let shards = if is_cluster { 2 + (seed / 5 % 4) as usize } else { shards };
        let nodes = if is_cluster { shards } else { 1 };
        let is_limited = seed.is_multiple_of(45) && !is_filtered;
        let spending = Rc::new(RefCell::new(Spending::default()));
        let overload = Arc::new(Overload::default());
        let node = |number| {
            let mut mesh = SimMesh::new(shards / nodes, is_tight);
            (mesh.node, mesh.spending, mesh.has_nodes) = (number, Rc::clone(&spending), is_cluster);
            mesh.overload = Arc::clone(&overload);
            let removals = Removals::new(shards / nodes, mesh.room.background_reads());
            (Rc::new(RefCell::new(mesh)), Rc::new(RefCell::new(removals)))
        };
        let (meshes, removals): (Vec<_>, Vec<_>) = (0..nodes).map(node).unzip();
        let network = Rc::new(RefCell::new(Network::default()));
        let store = Rc::new(RefCell::new(Store::new(clock.clone(), shards)));
        let connections = Arc::new(AtomicUsize::new(0));
        let settings = Arc::new(ShardSettings {
            live: Arc::new(LiveSettings {
                version: 0,
                limits: Limits {
                    // In a cluster, a node learns of connections to others half a second later.
                    max_connections_per_user: if is_cluster { 100 } else { 4 },
                    max_messages_per_minute: if is_limited { MESSAGES_PER_MINUTE } else { 100_000 },
                    // An old account has twice the budget.
                    adaptive: !is_limited,
                    max_outbound_queue_bytes: QUEUE_BYTES_MAX,
                    ..Limits::default()
                },
                factor_policy: FactorPolicy::default(),
                keys: Arc::clone(&stage.keys),
                allowed_origins: Vec::new(),
                access_lifetime_seconds: 900,
                refresh_lifetime_seconds: 604_800,
            }),
            features: Features {
                message_reactions: true,
                pinned_messages: true,
                user_mentions: true,
                message_threads: true,
                file_uploads: true,
                files_scanned: false,
            },
            scans_files: Arc::default(),
            loopback_origins: false,
            heartbeat_ms: HEARTBEAT_MS,
            trusted_proxies: TrustedProxies::default(),
            proxy_protocol: false,
            head_timeout_ms: 5_000,
            message_timeout_ms: 30_000,
            deflate: false,
            content_filtering: true,
            filter: if is_filtered { Arc::clone(&stage.rules) } else { Arc::default() },
            overload,
            connections: Arc::clone(&connections),
            direct_sockets: Arc::default(),
            descriptors_max: usize::MAX,
            networks: Quota::new(100),
            drained: AtomicUsize::new(0),
            started: stage.started,
        });
        let cores = (0..shards).map(|index| {
            let (node, id) = if is_cluster { (index, ShardId(0)) } else { (0, ShardId(index as u8)) };
            let (mesh, removals) = (&meshes[node], &removals[node]);
            let counters = Arc::clone(&stage.counters[index]);
            counters.last_turn_ms.set(0);
            let (network, store, removals) = (Rc::clone(&network), Rc::clone(&store), Rc::clone(removals));
            let lanes = SimLanes::new(id, Rc::clone(mesh), Rc::clone(&removals), clock.clone(), verdicts.clone());
            let known = Rc::clone(&removals);
            let sockets = SimSockets::new(id, network, store, known, clock.clone(), verdicts.clone());
            let world = (sockets, lanes, clock.clone());
            let shard = Shard::new(id, Arc::clone(&settings), counters, world);
            Core { shard, last_tick_ms: 0, id, mesh: Rc::clone(mesh), removals }
        });
        let cores = cores.collect();
        let cluster = is_cluster.then(|| Cluster::new(clock.clone(), nodes));
        let users: Vec<UserId> = (1..=3).map(UserId).collect();
        // A direct conversation and two rooms; everybody is in the first room.
        let numbers = [4, 10, 14];
        let conversations: Vec<ConversationId> =
            numbers.iter().filter_map(|number| ConversationId::from_number(*number)).collect();
        let mut clients = Vec::new();
        {
            let mut store = store.borrow_mut();
            store.create(conversations[0], &users[..2]);
            store.create(conversations[1], &users);
            store.create(conversations[2], &users[1..]);
            for (device, user) in [users[0], users[0], users[1], users[2]].into_iter().enumerate() {
                let mut client = Client::new(user, store.sign_in(user), device);
                client.tries_the_filter = is_filtered;
                clients.push(client);
            }
        }
        Self {
            stage,
            clock,
            verdicts,
            meshes,
            cluster,
            network,
            store,
            is_tight,
            is_filtered,
            talks_in: (seed % 7 == 4).then(|| conversations[(seed / 7 % 2) as usize]),
            is_limited,
            spending,
            cores,
            clients,
            users,
            conversations,
            connections,
            may_overload: seed.is_multiple_of(7),
        }
    }

    fn play(&mut self) {
        for _ in 0..STEPS {
            self.step();
            if self.verdicts.first().is_some() {
                return;
            }
        }
        self.heal();
        if self.verdicts.first().is_none() {
            self.check_settled();
        }
    }

    fn step(&mut self) {
        match self.clock.below(100) {
            0..40 => {
                let core = self.clock.below(self.cores.len());
                self.turn(core);
            }
            40..58 => {
                let shard = self.clock.below(self.cores.len());
                self.work(shard);
            }
            58..72 => {
                let client = self.clock.below(self.clients.len());
                self.clients[client].read(&mut self.network.borrow_mut(), &self.store.borrow(), &self.verdicts);
            }
            72..90 => self.act(),
            90..97 => self.clock.advance(1 + self.clock.below(120) as u64),
            _ => self.misfortune(),
        }
    }

    /// A shard takes a turn: its sockets, its tick when it is due, its lanes.
    fn turn(&mut self, core: usize) {
        let now_ms = self.clock.now_ms();
        let core = &mut self.cores[core];
        let mut events = core.shard.sockets_mut().collect();
        let ticks = now_ms - core.last_tick_ms >= TICK_MS;
        if ticks {
            core.last_tick_ms = now_ms;
            // An overload has both: commits that wait, and input that is read late.
            let is_overloaded = core.mesh.borrow().commit_waits_too_long();
            let late_ms = if is_overloaded { 2 * INPUT_WAIT_TARGET_MS } else { 0 };
            events.push(SocketEvent::Tick(Duration::from_millis(late_ms)));
        }
        core.removals.borrow_mut().turn_begins(core.id);
        core.shard.turn(&mut events);
        if ticks {
            core.removals.borrow_mut().ticked(core.id, now_ms, core.mesh.borrow().jammed);
        }
    }

    /// The store does some of a shard's work, and in a cluster also the thread between the nodes.
    fn work(&mut self, core: usize) {
        let mut store = self.store.borrow_mut();
        let Core { id, mesh, .. } = &self.cores[core];
        store.work(&mut mesh.borrow_mut(), (id.index(), core), &self.verdicts);
        if let Some(cluster) = &mut self.cluster {
            cluster.work(core, &self.meshes, &store);
        }
        if let Some(fault) = store.moderation.fault.take() {
            self.verdicts.broken(fault);
        }
    }

    /// A moderator decides about a held text. One that is approved is sent as a message of its author.
    fn moderate(&mut self) {
        let approves = self.clock.chance(50);
        let reviewed = self.store.borrow_mut().moderation.review(approves);
        let Some(((conversation, author, key), content)) = reviewed.filter(|_| approves) else { return };
        let text = ApprovedText::Message { content, message_type: "text", parent: None, key, files: Vec::new() };
        let approval = Approval { author, conversation, text, reply: Box::new(|_| ()) };
        let mesh = &self.meshes[self.any_node()];
        let shards = mesh.borrow().control.len();
        let shard = Placement::new(shards as u8).of_user(author);
        let at_ms = self.clock.now_ms() + self.clock.below(6) as u64;
        mesh.borrow_mut().control[usize::from(shard.0)].push(ControlFrame::SendApproved(Box::new(approval)), at_ms);
    }

    /// A client does something.
    fn act(&mut self) {
        if self.is_filtered && self.clock.chance(6) {
            return self.moderate();
        }
        let index = self.clock.below(self.clients.len());
        if self.clients[index].socket().is_none() {
            return self.connect(index, self.clock.chance(60));
        }
        let conversation = self.conversations[self.clock.below(self.conversations.len())];
        let conversation = self.talks_in.unwrap_or(conversation);
        let user = self.users[self.clock.below(self.users.len())];
        let action = self.clock.below(100);
        let length = if self.clock.chance(10) { 3_000 } else { 8 };
        let client = &mut self.clients[index];
        let network = &mut self.network.borrow_mut();
        let target = json!({ "conversation_id": conversation, "user_id": user });
        match action {
            0..40 => client.send_message(network, conversation, length),
            46..62 if self.talks_in.is_some() => client.send_message(network, conversation, length),
            40..46 => client.subscribe(network, conversation),
            46..50 => client.unsubscribe(network, conversation),
            50..54 => client.resume(network),
            54..58 => client.typing(network, conversation),
            64..66 if self.is_tight => client.mark_read(network, conversation),
            58..66 => client.get_presence(network, &self.users),
            66..69 => client.set_presence(network, "around"),
            69..73 => client.change(network, "join_conversation", &json!({ "conversation_id": conversation })),
            73..77 => client.change(network, "leave_conversation", &json!({ "conversation_id": conversation })),
            77..80 => client.change(network, "remove_member", &target),
            80..83 => client.change(network, "invite_member", &target),
            83..86 if user != client.user => client.change(network, "block_user", &json!({ "user_id": user })),
            86..88 if user != client.user => client.change(network, "unblock_user", &json!({ "user_id": user })),
            88..92 => client.is_slow = !client.is_slow,
            92..96 => client.cut(network),
            96..98 => client.close(network),
            _ => {
                let session = client.session;
                self.revoke(session);
            }
        }
    }

    fn connect(&mut self, index: usize, subscribe_all: bool) {
        let socket = self.dial(index, subscribe_all);
        let core = self.clock.below(self.cores.len());
        self.cores[core].shard.sockets_mut().accept(socket);
    }

    /// A client connects. Some shard must accept the socket.
    fn dial(&mut self, index: usize, subscribe_all: bool) -> usize {
        if self.store.borrow().is_revoked(self.clients[index].session) {
            let session = self.store.borrow_mut().sign_in(self.clients[index].user);
            self.clients[index].session = session;
        }
        let client = &mut self.clients[index];
        let token = self.stage.token(client.user, client.session);
        let hint = self.conversations[self.clock.below(self.conversations.len())];
        let mut pipe = Pipe::default();
        let mut network = self.network.borrow_mut();
        let socket = network.pipes.len();
        client.connect(&mut pipe, socket, &token, subscribe_all, hint);
        network.pipes.push(pipe);
        socket
    }

    /// A session is revoked, and every shard hears of it a little later.
    fn revoke(&self, session: SessionId) {
        if !self.store.borrow_mut().revoke(session) {
            return;
        }
        let sessions: Arc<[SessionId]> = Arc::from([session]);
        for mesh in &self.meshes {
            for lane in &mut mesh.borrow_mut().control {
                let at_ms = self.clock.now_ms() + self.clock.below(6) as u64;
                lane.push(ControlFrame::SessionsRevoked(Arc::clone(&sessions)), at_ms);
            }
        }
    }

    fn any_node(&self) -> usize {
        if self.meshes.len() > 1 { self.clock.below(self.meshes.len()) } else { 0 }
    }

    /// Something goes wrong, or right again.
    fn misfortune(&mut self) {
        let mut mesh = self.meshes[self.any_node()].borrow_mut();
        let mut store = self.store.borrow_mut();
        if let Some(cluster) = &mut self.cluster {
            cluster.is_away = self.clock.chance(30);
        }
        match self.clock.below(6) {
            0 => mesh.jammed = !mesh.jammed,
            4 if self.may_overload => {
                let is_long = mesh.commit_waits_too_long();
                let wait_ms = if is_long { 0 } else { 2 * COMMIT_WAIT_MAX_MS };
                mesh.overload.set_commit_wait(CommitQueue::Conversations, Duration::from_millis(wait_ms));
            }
            1 => store.is_down = !store.is_down,
            2 => store.disk_full = !store.disk_full,
            3 => self.clock.advance(700 + self.clock.below(3_000) as u64),
            _ => {
                (mesh.jammed, store.is_down, store.disk_full) = (false, false, false);
                mesh.overload.set_commit_wait(CommitQueue::Conversations, Duration::ZERO);
            }
        }
    }

    /// One round without faults: everybody gets a turn.
    fn round(&mut self, ms: u64) {
        self.clock.advance(ms);
        for core in 0..self.cores.len() {
            self.turn(core);
            self.work(core);
        }
        for client in &mut self.clients {
            client.read(&mut self.network.borrow_mut(), &self.store.borrow(), &self.verdicts);
        }
    }

    fn heal(&mut self) {
        {
            let mut store = self.store.borrow_mut();
            for mesh in &self.meshes {
                let mut mesh = mesh.borrow_mut();
                (mesh.jammed, mesh.healed) = (false, true);
                mesh.overload.set_commit_wait(CommitQueue::Conversations, Duration::ZERO);
            }
            if let Some(cluster) = &mut self.cluster {
                (cluster.is_away, cluster.healed) = (false, true);
            }
            (store.is_down, store.disk_full, store.healed) = (false, false, true);
            for client in &mut self.clients {
                client.is_slow = false;
            }
        }
        // Absent users stay absent for a while: what the shards remember of them must outlast the sweeps.
        for _ in 0..70 {
            self.round(TICK_MS);
        }
        for index in 0..self.clients.len() {
            if self.clients[index].socket().is_none() {
                self.connect(index, false);
            } else {
                self.clients[index].send_again(&mut self.network.borrow_mut());
            }
        }
        for _ in 0..HEALING_ROUNDS_MAX {
            self.round(TICK_MS / 4);
            if self.verdicts.first().is_some() || self.is_settled() {
                return;
            }
            self.reconnect();
        }
        self.verdicts.broken(format!("nothing settles: {}", self.state()));
    }

    /// Clients that were closed while they healed connect again.
    fn reconnect(&mut self) {
        for index in 0..self.clients.len() {
            if self.clients[index].socket().is_none() {
                self.connect(index, false);
            }
        }
    }

    fn is_settled(&self) -> bool {
        self.meshes.iter().all(|mesh| mesh.borrow().is_empty())
            && self.store.borrow().is_settled()
            && self.clients.iter().all(|client| client.is_open() && client.unanswered() == 0)
            && self.cores.iter().all(|core| core.shard.audit() == Audit::default())
            && self.clients.iter().all(|client| self.has_caught_up(client))
    }

    fn has_caught_up(&self, client: &Client) -> bool {
        let store = self.store.borrow();
        let stale = |conversation: &ConversationId, cursor: i64| {
            let follows = store.is_member(client.user, *conversation) && !client.left.contains(conversation);
            follows && cursor != store.last_seq(*conversation)
        };
        !client.cursors.iter().any(|(conversation, cursor)| stale(conversation, *cursor))
    }

    /// What stands in the way of settling.
    fn state(&self) -> String {
        let store = self.store.borrow();
        let audits: Vec<Audit> = self.cores.iter().map(|core| core.shard.audit()).collect();
        let clients: Vec<String> = self
            .clients
            .iter()
            .map(|client| {
                let ends: Vec<_> = client
                    .cursors
                    .iter()
                    .map(|(c, cursor)| (c.to_string(), *cursor, store.last_seq(*c), store.is_member(client.user, *c)))
                    .collect();
                format!("open {}, unanswered {}, cursors {ends:?}", client.is_open(), client.unanswered())
            })
            .collect();
        let lanes = if self.meshes.iter().all(|mesh| mesh.borrow().is_empty()) { "empty" } else { "not empty" };
        format!("lanes {lanes}, store settled {}, {audits:?}, {clients:#?}", store.is_settled())
    }

    /// What must hold once everything has settled.
    fn check_settled(&mut self) {
        let store = self.store.borrow();
        for client in &self.clients {
            client.check_acked(&store, &self.verdicts);
            self.verdicts.check(!store.is_revoked(client.session), || {
                format!("session {} was revoked and still has a connection", client.session.0)
            });
            // A device that follows everything has every conversation of its user.
            for conversation in self.conversations.iter().filter(|conversation| client.follows(**conversation)) {
                let follows = client.cursors.contains_key(conversation);
                self.verdicts.check(follows || !store.is_member(client.user, *conversation), || {
                    format!("user {} is a member of {conversation} and receives nothing of it", client.user.0)
                });
            }
        }
        let open = self.cores.iter().map(|core| core.shard.sockets().open_connections()).sum::<usize>();
        let counted = self.connections.load(Ordering::Relaxed);
        self.verdicts.check(open == counted, || format!("{open} connections are open, {counted} are counted"));
    }
}
