//! `loadtest run uploads`: what files cost the server, and everybody else.
//!
//! 1. Memory: a fresh server receives one file ([`memory`]), in chunks, in one body, and as a form. Fresh, because
//!    memory that an earlier upload has left would hide what a later one needs.
//! 2. Messages: the ordinary users of `crowding`, in quiet phases and beside uploads that are repeated until the phase
//!    ends ([`flood`]), in turn: a machine that becomes slower affects both. The median P99s of both kinds are
//!    compared.
//! 3. Downloads: one file from the server, by a signed link, and from nginx, which reads the same file of the same disk
//!    ([`downloads`], [`servers`]). They take turns, and their order changes from round to round. A loop of sendfile(2)
//!    in this process shows what the client can receive.
//!
//! Invariants: every phase, wait and download is bounded in time; the files take at most
//! [`flood::DISK_BYTES_MAX`] bytes of the disk at any time, and nothing is left of them.

mod content;
mod downloads;
mod flood;
mod http;
mod memory;
mod report;
mod servers;
mod transfer;

use crate::crowding::{Ordinary, Visitors, sign_in_from_everywhere};
use crate::options::RunOptions;
use crate::progress;
use crate::report::files::write_report;
use crate::result::Machine;
use crate::run::{Interrupts, interruptible_runtime};
use crate::scenario::{RoomKind, RoomPlan, Scenario, UploadPart, Uploads};
use crate::setup::account::{SETUP_CONCURRENCY, SignIn};
use crate::setup::api::Api;
use crate::setup::launch::{Launch, Server};
use crate::setup::pin;
use crate::setup::rooms::{self, Preparation};
use content::FileContent;
use downloads::{CONNECTIONS, DownloadSource};
use flood::{UploadFlood, UploadGround, bytes_below};
use indicatif::ProgressBar;
use memory::MemorySampler;
use report::{DownloadRound, MeasuredUpload, MessagePhase, UploadsReport};
use servers::{BareServer, FILE_PATH, Nginx, find_nginx};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use transfer::{UploadPace, UploadWay, Uploader};

/// The scenario's name.
pub const NAME: &str = "uploads";
/// Between two phases, and before the memory is read: what has begun ends.
const PAUSE: Duration = Duration::from_secs(2);
/// How long the server may take to remove the last files.
const REMOVAL: Duration = Duration::from_secs(10);
/// The part of a phase's length that a download takes.
const DOWNLOADS_IN_PHASE: u32 = 5;
/// The setting that bounds the size of a file, and its shipped value.
const SIZE_SETTING: &str = "limits.max_file_size";
const SIZE_SHIPPED: u64 = 100 * 1024 * 1024;

/// Measures and prints. Returns whether all bars are met.
///
/// # Errors
/// What could not be done. What was measured before is printed.
pub fn run(options: &RunOptions, scenario: &Scenario, plan: &Uploads) -> Result<bool, String> {
    if options.url.is_some() {
        return Err(format!("{NAME} reads the server's memory and files: leave --url out"));
    }
    if options.output.hlog.is_some() {
        return Err(format!("{NAME} has no interval log; write --json or --html"));
    }
    let has_downloads = plan.parts.contains(&UploadPart::Downloads);
    let nginx = if has_downloads { Some(find_nginx(std::env::var_os("PATH").as_deref())?) } else { None };
    let machine = Machine::current();
    if let Some(cores) = &options.generator.cores {
        pin::pin(&cores.0)?;
    }
    let (runtime, interrupts) = interruptible_runtime(1)?;
    let bar = progress::bar(options.output.quiet, steps(plan), "measuring files");
    let measurement = Measurement {
        options,
        scenario,
        plan,
        runtime: &runtime,
        interrupts: &interrupts,
        bar: &bar,
        content: FileContent::new(plan.size_bytes),
        first: u64::from(rand::random::<u32>()) << 32,
    };
    let mut report = UploadsReport::new(machine, plan);
    let measured = measurement.all(nginx.as_deref(), &mut report);
    bar.finish_and_clear();
    report.hold_to_bars(plan);
    print!("{}", report.render());
    write_report(&options.output, NAME, &report, |label| report.page(label))?;
    measured.map(|()| report.is_met())
}

/// Steps of the progress bar.
fn steps(plan: &Uploads) -> u64 {
    let of = |part: &UploadPart| match part {
        UploadPart::Memory => UploadWay::ALL.len() as u64,
        UploadPart::Messages => u64::from(plan.rounds) * 2 + 1,
        UploadPart::Downloads => u64::from(plan.rounds) * CONNECTIONS.len() as u64 * 3,
    };
    UploadPart::ALL.iter().filter(|part| plan.parts.contains(part)).map(of).sum()
}

/// A server with an empty store.
struct Started {
    server: Server,
    api: Api,
    address: SocketAddr,
}

impl Started {
    /// The folder with the bytes of files.
    fn folder(&self) -> PathBuf {
        self.server.data_dir().join("files")
    }
}

struct Measurement<'a> {
    options: &'a RunOptions,
    scenario: &'a Scenario,
    plan: &'a Uploads,
    runtime: &'a Runtime,
    interrupts: &'a Interrupts,
    bar: &'a ProgressBar,
    content: FileContent,
    /// The number of the first file: no other run has it.
    first: u64,
}

impl Measurement<'_> {
    fn all(&self, nginx: Option<&Path>, report: &mut UploadsReport) -> Result<(), String> {
        for part in UploadPart::ALL.iter().filter(|part| self.plan.parts.contains(part)) {
            self.interrupts.check()?;
            match part {
                UploadPart::Memory => self.memory(&mut report.memory)?,
                UploadPart::Messages => self.runtime.block_on(self.messages(&mut report.messages))?,
                UploadPart::Downloads => {
                    let nginx = nginx.ok_or("nginx was not found")?;
                    self.downloads(nginx, report)?;
                }
            }
        }
        Ok(())
    }

    async fn start(&self) -> Result<Started, String> {
        let mut settings = self.scenario.server.clone();
        let size = SIZE_SHIPPED.max(self.plan.size_bytes);
        settings.entry(SIZE_SETTING.to_owned()).or_insert_with(|| (size as i64).into());
        let mut server = Server::start(&Launch { settings, ..self.options.server.launch() })?;
        let api = Api::new(server.target().clone()).map_err(|error| error.to_string())?;
        server.ready(&api).await?;
        let address = api.target().resolve()?;
        Ok(Started { server, api, address })
    }

    fn sign_in(&self) -> SignIn {
        SignIn { prefix: self.options.prefix.clone(), password: self.options.password.clone() }
    }

    /// A room of these users, by index.
    async fn room(&self, api: &Api, accounts: &[crate::setup::account::Account]) -> Result<String, String> {
        let members: Vec<u32> = (0..accounts.len() as u32).collect();
        let name = format!("files-of-{}", members.len());
        let plan = RoomPlan { class: 0, name, kind: RoomKind::PublicRoom, members };
        let how = Preparation { prefix: &self.options.prefix, concurrency: SETUP_CONCURRENCY, quiet: true };
        let rooms = rooms::prepare(api, accounts, &[plan], how).await?;
        rooms.into_iter().next().ok_or_else(|| "a room was wanted".to_owned())
    }

    /// A server, and a user of it with a room.
    async fn with_one_user(&self) -> Result<(Started, String, String), String> {
        let started = self.start().await?;
        let account = self.sign_in().enter(&started.api, 0).await?;
        let room = self.room(&started.api, std::slice::from_ref(&account)).await?;
        Ok((started, account.token, room))
    }

    fn is_interrupted(&self) -> bool {
        self.interrupts.count() > 0
    }

    /// Uploads a file and waits until it is ready; the server's number.
    fn upload(&self, uploader: &mut Uploader, way: UploadWay, number: u64) -> Result<u64, String> {
        let is_over = || self.is_interrupted();
        let file = uploader.upload(way, number, &is_over)?.ok_or("interrupted")?;
        if !uploader.wait_until_ready(file, &is_over)? {
            return Err("interrupted".to_owned());
        }
        Ok(file)
    }

    fn memory(&self, measured: &mut Vec<MeasuredUpload>) -> Result<(), String> {
        for way in UploadWay::ALL {
            self.interrupts.check()?;
            let (started, token, room) = self.runtime.block_on(self.with_one_user())?;
            std::thread::sleep(PAUSE);
            let sampler = MemorySampler::start(started.server.pid())?;
            let began = Instant::now();
            let mut uploader = Uploader::connect(started.address, &token, &room, &self.content)?;
            let file = uploader.upload(way, self.first, &|| self.is_interrupted())?.ok_or("interrupted")?;
            let sent = began.elapsed();
            let is_ready = uploader.wait_until_ready(file, &|| self.is_interrupted())?;
            let seconds = began.elapsed().as_secs_f64();
            let memory = sampler.stop()?;
            uploader.remove(file)?;
            wait_until_removed(&started);
            if !is_ready {
                return Err("interrupted".to_owned());
            }
            let bytes_per_s = self.content.size() as f64 / sent.as_secs_f64().max(1e-6);
            measured.push(MeasuredUpload { way, memory, seconds_until_ready: seconds, bytes_per_s });
            self.bar.inc(1);
        }
        Ok(())
    }

    async fn messages(&self, phases: &mut Vec<MessagePhase>) -> Result<(), String> {
        let (users, uploaders) = (self.scenario.population.users, self.plan.at_once);
        let started = self.start().await?;
        let target = started.api.target();
        let mut victims = sign_in_from_everywhere(&self.sign_in(), target, users + uploaders).await?;
        // Those who upload are members too: what the files change in the room reaches everybody there.
        let room = self.room(&started.api, &victims).await?;
        let accounts = victims.split_off(users as usize);
        let ground = Arc::new(UploadGround {
            address: started.address,
            accounts,
            conversation: room.clone(),
            content: self.content.clone(),
            pace: UploadPace { bytes_per_s: self.plan.bytes_per_s },
            folder: started.folder(),
            next: AtomicU64::new(self.first),
        });
        let visitors = Visitors::new(target, &victims, &self.options.password)?;
        let mut ordinary = Ordinary::connect(target, &victims, visitors, &room, self.scenario.load.rate).await?;
        ordinary.go_on(PAUSE, self.interrupts).await?; // what is slow for the first time only
        for n in 0..=self.plan.rounds * 2 {
            let flood = (n % 2 == 1).then(|| UploadFlood::start(&ground));
            let seen = ordinary.go_on(self.scenario.load.duration, self.interrupts).await;
            let uploaded = flood.map(|flood| flood.stop(self.content.size())).transpose()?;
            wait_until_removed(&started);
            phases.push(MessagePhase::of(uploaded, seen?));
            self.bar.inc(1);
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    fn downloads(&self, nginx: &Path, report: &mut UploadsReport) -> Result<(), String> {
        let (started, token, room) = self.runtime.block_on(self.with_one_user())?;
        let connect = || Uploader::connect(started.address, &token, &room, &self.content);
        let mut uploader = connect()?;
        let file = self.upload(&mut uploader, UploadWay::Chunks, self.first)?;
        let blob = stored(&started.folder(), &self.content, self.first)
            .ok_or_else(|| format!("the file was not found below {}", started.folder().display()))?;
        let cores = self.options.server.server_cores.clone().map(|cores| cores.0).unwrap_or_default();
        let nginx = Nginx::start(nginx, &blob, &cores)?;
        report.nginx = Some(nginx.version.clone());
        let bare = BareServer::start(&blob)?;
        let size = self.content.size();
        let source = |address, path: String| DownloadSource { address, path, size };
        let sources = [
            source(started.address, uploader.link(file)?),
            source(nginx.address, FILE_PATH.to_owned()),
            source(bare.address, FILE_PATH.to_owned()),
        ];
        for source in &sources {
            source.verify(&self.content, self.first)?;
        }
        let length = self.scenario.load.duration / DOWNLOADS_IN_PHASE;
        for round in 0..self.plan.rounds {
            for connections in CONNECTIONS {
                let mut figures = [0.0; 3];
                for n in 0..sources.len() {
                    self.interrupts.check()?;
                    let at = (n + round as usize) % sources.len();
                    figures[at] = sources[at].throughput(connections, length)?;
                    self.bar.inc(1);
                }
                report.downloads.push(DownloadRound::of(round, connections, figures));
            }
        }
        // The server has closed the idle connection.
        connect()?.remove(file)?;
        wait_until_removed(&started);
        Ok(())
    }
}

/// Waits until the server has removed the bytes of what was deleted, so that a later phase does not pay for it.
fn wait_until_removed(started: &Started) {
    let deadline = Instant::now() + REMOVAL;
    while bytes_below(&started.folder()) > 0 && Instant::now() < deadline {
        std::thread::sleep(PAUSE / 40);
    }
}

/// The stored content of a file, below the server's folder.
fn stored(folder: &Path, content: &FileContent, number: u64) -> Option<PathBuf> {
    let mut waiting = vec![folder.join("blobs")];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else { continue };
            if found.is_dir() {
                waiting.push(entry.path());
            } else if found.len() == content.size() && content.is_start_of(number, &entry.path()) {
                return Some(entry.path());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_stored_content_among_files_of_the_same_size() {
        let root = tempfile::tempdir().unwrap();
        let content = FileContent::new(70_000);
        for (number, folder) in [(1, "blobs/aa/bb"), (2, "blobs/cc/dd"), (3, "uploads")] {
            let folder = root.path().join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            let mut bytes = Vec::new();
            let gather = |piece: &[u8]| {
                bytes.extend_from_slice(piece);
                Ok(())
            };
            content.pieces(number, 0, 70_000, gather).unwrap();
            std::fs::write(folder.join("x"), bytes).unwrap();
        }
        assert_eq!(stored(root.path(), &content, 2), Some(root.path().join("blobs/cc/dd/x")));
        assert_eq!(stored(root.path(), &content, 3), None, "an upload is no content");
    }

    #[test]
    fn every_step_of_the_chosen_parts_is_counted() {
        let plan = |parts: &[UploadPart]| Uploads { rounds: 2, parts: parts.to_vec(), ..Uploads::default() };
        assert_eq!(steps(&plan(&UploadPart::ALL)), 3 + 5 + 12);
        assert_eq!(steps(&plan(&[UploadPart::Messages])), 5);
    }
}
