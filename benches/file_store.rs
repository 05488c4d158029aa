//! Ways to write an upload and to read a file: blocking calls on a few threads, as the server does it; `tokio::fs`; and
//! `io_uring` by glommio's buffered files on an executor of their own.
//!
//! ```text
//! cargo bench --bench file_store                    100 MB, 5 rounds, in the folder for temporary files
//! cargo bench --bench file_store -- /data 3         in another folder, 3 rounds
//! ```
//!
//! Each round runs all of them, one after the other, and the rounds begin with another one each time, so that drift of
//! the machine meets all. The content is in the page cache when it is read, as after an upload. What is printed are
//! medians, and ratios to the first.

use chat_server::files::store::bytes_of;
use chat_server::files::store::disk::{Disk, DiskThreads};
use chat_server::files::store::folder::Folder;
use chat_server::ids::FileId;
use futures_util::StreamExt as _;
use glommio::LocalExecutorBuilder;
use glommio::io::BufferedFile;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const BYTES: usize = 100_000_000;
/// What the server writes and reads at once.
const CHUNK: usize = 256 * 1024;
/// After so many chunks the server waits until they are on the disk.
const KEPT_CHUNKS: usize = 32;

const WAYS: [&str; 3] = ["threads (the server)", "tokio::fs", "glommio, io_uring"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let parent = arguments.first().map_or_else(std::env::temp_dir, PathBuf::from);
    let rounds = arguments.get(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    let root = tempfile::tempdir_in(parent).expect("a folder that can be written to");
    let threads = DiskThreads::new().expect("threads");
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(8).build().expect("a runtime");
    let folder = Folder::open(root.path(), 0).expect("a folder");
    let mut times: [[Vec<Duration>; 2]; 3] = Default::default();
    for round in 0..rounds {
        for way in (0..WAYS.len()).map(|way| (way + round) % WAYS.len()) {
            let path = root.path().join(format!("{way}"));
            let [written, read] = match way {
                0 => runtime.block_on(by_threads(&folder, &threads.disk())),
                1 => runtime.block_on(by_tokio(&path)),
                _ => by_glommio(path.clone()),
            };
            times[way][0].push(written);
            times[way][1].push(read);
        }
        eprintln!("round {} of {rounds}", round + 1);
    }
    println!("{BYTES} bytes, {rounds} rounds, medians\n");
    println!("{:<22} {:>12} {:>7} {:>12} {:>7}", "", "write MB/s", "ratio", "read MB/s", "ratio");
    let rates = times.map(|of_way| of_way.map(|times| BYTES as f64 / 1e6 / median(times).as_secs_f64()));
    for (name, [written, read]) in WAYS.iter().zip(rates) {
        let [first_written, first_read] = rates[0];
        println!("{name:<22} {written:>12.0} {:>7.2} {read:>12.0} {:>7.2}", written / first_written, read / first_read);
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn chunk() -> Vec<u8> {
    (0..CHUNK).map(|n| (n * 31) as u8).collect()
}

async fn by_threads(folder: &Folder, disk: &Disk) -> [Duration; 2] {
    let started = Instant::now();
    let opened = folder.clone();
    let mut upload = disk.run(move || opened.resume(FileId(1), 0)).await.expect("an upload");
    let mut left = BYTES;
    for n in 1.. {
        let bytes = chunk()[..left.min(CHUNK)].to_vec();
        left -= bytes.len();
        upload = disk.run(move || upload.append(&bytes).map(|()| upload)).await.expect("written");
        if n % KEPT_CHUNKS == 0 || left == 0 {
            upload = disk.run(move || upload.keep().map(|()| upload)).await.expect("kept");
        }
        if left == 0 {
            break;
        }
    }
    let written = started.elapsed();
    drop(upload);
    let started = Instant::now();
    let opened = folder.clone();
    let file = disk.run(move || opened.read_upload(FileId(1))).await.expect("the upload");
    let total = bytes_of(disk.clone(), file, BYTES as u64).fold(0, async |sum, part| sum + part.expect("read").len());
    assert_eq!(total.await, BYTES);
    let read = started.elapsed();
    let removed = folder.clone();
    disk.run(move || removed.remove_upload(FileId(1))).await.expect("removed");
    [written, read]
}

async fn by_tokio(path: &Path) -> [Duration; 2] {
    let started = Instant::now();
    let mut file = tokio::fs::File::create(path).await.expect("a file");
    let mut left = BYTES;
    for n in 1.. {
        let bytes = &chunk()[..left.min(CHUNK)];
        left -= bytes.len();
        file.write_all(bytes).await.expect("written");
        if n % KEPT_CHUNKS == 0 || left == 0 {
            file.sync_data().await.expect("kept");
        }
        if left == 0 {
            break;
        }
    }
    let written = started.elapsed();
    let started = Instant::now();
    let mut file = tokio::fs::File::open(path).await.expect("the file");
    file.set_max_buf_size(CHUNK);
    let (mut buffer, mut total) = (vec![0; CHUNK], 0);
    loop {
        match file.read(&mut buffer).await.expect("read") {
            0 => break,
            n => total += n,
        }
    }
    assert_eq!(total, BYTES);
    let read = started.elapsed();
    std::fs::remove_file(path).expect("removed");
    [written, read]
}

fn by_glommio(path: PathBuf) -> [Duration; 2] {
    let executor = LocalExecutorBuilder::default().spawn(move || async move {
        let started = Instant::now();
        let file = BufferedFile::create(&path).await.expect("a file");
        let mut at = 0;
        for n in 1.. {
            let bytes = chunk()[..(BYTES - at).min(CHUNK)].to_vec();
            let length = bytes.len();
            assert_eq!(file.write_at(bytes, at as u64).await.expect("written"), length);
            at += length;
            if n % KEPT_CHUNKS == 0 || at == BYTES {
                file.fdatasync().await.expect("kept");
            }
            if at == BYTES {
                break;
            }
        }
        file.close().await.expect("closed");
        let written = started.elapsed();
        let started = Instant::now();
        let file = BufferedFile::open(&path).await.expect("the file");
        let mut total = 0;
        while total < BYTES {
            total += file.read_at(total as u64, CHUNK).await.expect("read").len();
        }
        file.close().await.expect("closed");
        let read = started.elapsed();
        std::fs::remove_file(&path).expect("removed");
        [written, read]
    });
    executor.expect("an executor: io_uring must be allowed").join().expect("no panic")
}
